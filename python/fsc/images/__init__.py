"""Few images: tensors, data sets, samples, augmentation."""
