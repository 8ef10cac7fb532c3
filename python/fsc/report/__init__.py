"""What people look at: figures and analyses."""
