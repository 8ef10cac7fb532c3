"""The page for people: what it says of every kind of compression, and that nothing gets out."""

import json
import re

import pytest
import torch
from torch import nn
from well_formed import Page

import fsc
import fsc.report
from fsc import models, schemes

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("<img src=x onerror=alert(1)>", '"><script>alert(2)</script>', "</style></svg>&amp;")


def teacher():
    torch.manual_seed(0)
    return models.build("resnet14").eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def solved(images):
    torch.set_num_threads(1)
    return fsc.compress(teacher(), images, method="cd-nc", pruning_ratio=0.5)


def test_says_before_and_after_layers_errors_images_and_how(solved, images):
    report = solved.report
    page = Page(
        fsc.report.page(solved, images, known={"model": "resnet14"}, command="fsc x --flag y")
    )
    assert "resnet14, compressed by the method cd-nc" in page.text and "fsc x --flag y" in page.text
    assert "50 % of the channels of every set were to go" in page.text
    before, after, left = page.row("parameters")
    assert (before, after) == (f"{report.parameters_teacher:,}", f"{report.parameters:,}")
    assert left == f"{100 * report.parameters / report.parameters_teacher:.0f} %"
    for change in report.changes:
        cells = page.layer(change.name)
        assert cells[:2] == [str(change.channels_teacher), str(change.channels)]
        assert cells[3:5] == [f"{change.weights_teacher:,}", f"{change.weights:,}"]
    for layer in report.layers:
        assert page.layer(layer.name)[-1] == f"{layer.relative_error:.4f}"
    assert "Error along the network" in page.text
    assert page.count("img") == len(images) and "6 images" in page.text
    assert page.row("objective") == ["Estimation"] and page.row("torch") == [torch.__version__]


def test_measures_are_shown_where_they_are_known(solved):
    known = {
        **{"top1": 90.0, "top1_teacher": 92.5, "test_images": 500},
        **{"kilobytes": 100.4, "kilobytes_teacher": 200.0},
        **{"milliseconds": 1.5, "milliseconds_teacher": 2.0},
        **{"milliseconds_batch": 30.0, "milliseconds_batch_teacher": 60.0},
        **{"data": "digits", "shots": 2, "ways": 3, "notes": ["Said of the times."]},
    }
    page = Page(fsc.report.page(solved, known=known))
    assert page.row("right answers (top\u20111)") == ["92.50 %", "90.00 %", "−2.50 points"]
    assert page.row("its 95 % interval") == ["89.9–94.5", "87.1–92.3", ""]
    assert page.row("size of the file") == ["200 kB", "100 kB", "50 %"]
    assert page.row("time for one image") == ["2.00 ms", "1.50 ms", "75 %"]
    assert page.row("time for 64 images at once") == ["60.0 ms", "30.0 ms", "50 %"]
    assert "6 images of digits, 2 of each of 3 classes, drawn with seed 0." in page.text
    assert "Said of the times." in page.text and "were not counted" not in page.text
    bare = Page(fsc.report.page(solved))
    assert "Right answers were not counted." in bare.text
    assert not [cells for cells in bare.rows if "time" in cells[0] or "answers" in cells[0]]


def test_a_file_of_the_report_gives_the_same_page(solved, images):
    report = solved.report
    read = json.loads(json.dumps(report.to_dict()))
    assert fsc.report.page(read, images) == fsc.report.page(report, images)
    assert fsc.report.page(report, images) == fsc.report.page(solved, images)


@pytest.mark.filterwarnings("ignore::fsc.warning.CompressionWarning")
@pytest.mark.parametrize("method", ["l1", fsc.MiR(steps=2, max_retries=0)], ids=["l1", "mir"])
def test_methods_without_errors_of_layers(images, method):
    page = Page(fsc.report.page(fsc.compress(teacher(), images, method=method, pruning_ratio=0.4)))
    assert "none has its own error" in page.text and "Error along" not in page.text
    assert "Channels that stay, layer by layer" in page.text


def test_single_weights(images):
    page = Page(fsc.report.page(fsc.compress(teacher(), images, method="l1", scheme="sparse-90")))
    assert "Weights that stay, layer by layer" in page.text
    _, after, left = page.row("parameters that are not zero")
    whole = int(page.row("parameters")[0].replace(",", ""))
    assert int(after.replace(",", "")) < 0.12 * whole and left == "11 %"
    *_, before, after, nonzero, fate = page.layer("layer1.0.conv2")
    assert (before, after, nonzero) == ("2,304", "2,304", "230")
    assert fate == "10 % of its weights stay"


def test_weights_are_counted_with_zeros_before_and_after(images):
    network = teacher()
    with torch.no_grad():
        network.conv1.weight[:, 0] = 0.0  # no reason to say that fewer stay
    page = Page(fsc.report.page(fsc.compress(network, images, method="l1", pruning_ratio=0.5)))
    assert page.layer("conv1")[3] == "432"
    assert "Weights are counted with those that are zero" in page.text
    assert "not zero" not in {cell for cells in page.rows for cell in cells}


def test_bits(images):
    result = fsc.compress(teacher(), images, method="cd-nc", scheme="w2a4")
    page = Page(fsc.report.page(result))
    assert "the scheme writes the weights of convolutions on 2 bits" in page.text
    assert "as large as it was" in page.layer("layer1.0.conv2")


def test_blocks_that_are_gone(images):
    scheme = schemes.DropBlocks(blocks=["layer1.1"])
    page = Page(fsc.report.page(fsc.compress(teacher(), images, method="l1", scheme=scheme)))
    cells = page.layer("layer1.1.conv1")
    assert cells[:2] == ["16", "0"] and "gone with its block layer1.1" in cells


def test_layers_that_are_two(images):
    scheme = schemes.Decoupling(terms={"layer3.1.conv1": 2})
    page = Page(fsc.report.page(fsc.compress(teacher(), images, method="l1", scheme=scheme)))
    cells = page.layer("layer3.1.conv1")
    assert "two layers now, of 2 filters for each input channel" in cells
    assert cells[:2] == ["64", "64"]


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.sound = nn.Conv2d(3, 8, 3), nn.Conv1d(2, 8, 3)
        self.head = nn.Linear(8, 2)

    def forward(self, image, sound):
        return self.head((self.image(image).mean((2, 3)) + self.sound(sound).mean(2)).relu())


def test_several_inputs():
    given = (torch.randn(4, 3, 8, 8), torch.randn(4, 2, 20))
    result = fsc.compress(Two(), given, method="l1", pruning_ratio=0.4)
    page = Page(fsc.report.page(result, given))
    assert page.count("img") == 4
    assert "input 0: all of them, each stretched" in page.text
    assert "input 1: no pictures, 2 x 20 each." in page.text
    assert page.row("5"), "channels of both inputs, one after the other"
    with pytest.raises(ValueError, match=r"\[N, 3, 8, 8\] and \[N, 2, 20\], as .* for input 0 and"):
        fsc.report.page(result, given[::-1])
    with pytest.raises(ValueError, match="images must be as many in every input"):
        fsc.report.page(result, (given[0], given[1][:2]))
    given[1][0, 0, 0] = torch.inf
    with pytest.raises(
        ValueError, match="images must be finite, got NaN or Inf in image 0 of input 1"
    ):
        fsc.report.page(result, given)


def test_what_stayed_is_told_with_its_reason(images):
    report = fsc.compress(teacher(), images, method="l1", pruning_ratio=0.4).report.to_dict()
    report["left"] = {"conv1": "its filters are shared", "linear": "its filters are shared"}
    untouched = {"channels": 16, "channels_teacher": 16, "weights": 432}
    report["changes"][0] |= untouched
    page = Page(fsc.report.page(report))
    assert "Channels that stayed, and why" in page.text
    assert "keeps its channels, see why, and reads fewer" in page.layer("linear")
    assert "conv1, linear: its filters are shared" in page.text
    assert "keeps its channels, see why" in page.layer("conv1")
    targets = [a["href"] for name, a in page.elements if name == "a"]
    assert set(targets) == {"#stayed"} and ("h3", {"id": "stayed"}) in page.elements


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_are_text(solved, name):
    report = json.loads(json.dumps(solved.report.to_dict()).replace("layer1.0.conv1", "NAME"))
    told = json.dumps(report).replace("NAME", json.dumps(name)[1:-1])
    known = {"model": f"{name}.py:net", "data": name, "notes": [name], "method_in_words": name}
    report = json.loads(told) | {"warnings": [name], "left": {name: name}, "scheme": name}
    report |= {"dropped": [name], "decoupled": {name: 2}}
    page = Page(fsc.report.page(report, known=known, command=name))
    assert not {"script", "iframe", "object", "form"} & {tag for tag, _ in page.elements}
    assert page.count("img") == 0, "none was given"
    for _, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on")]
    assert page.text.count(name) >= 8


def test_nothing_is_fetched_and_nothing_runs(solved, images):
    content = fsc.report.page(solved, images)
    assert not re.search(r"<script|@import|url\(", content)
    page = Page(content)
    links = [a[key] for _, a in page.elements for key in ("src", "href") if key in a]
    assert links and all(link.startswith(("data:", "#")) for link in links)
    policies = [a["content"] for tag, a in page.elements if "http-equiv" in a]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_can_be_read_aloud(solved, images):
    page = Page(fsc.report.page(solved, images))
    assert ("html", {"lang": "en"}) in page.elements and page.count("main") == 1
    assert page.count("h1") == 1 and page.count("h2") == 4
    assert page.count("caption") == page.count("table") == 5
    heads = [a for tag, a in page.elements if tag == "th"]
    assert {a["scope"] for a in heads} == {"col", "row"}
    for tag, attributes in page.elements:
        assert tag != "img" or attributes["alt"]
        if tag == "svg" and "chart" in attributes.get("class", ""):
            assert attributes["role"] == "img" and attributes["aria-label"]


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_letters_stand_out_by_day_by_night_and_on_paper(solved):
    themes = re.findall(r":root \{(.*?)\}", fsc.report.page(solved), re.S)
    assert len(themes) == 3
    for theme in themes:
        colors = dict(re.findall(r"--(\w+): (#\w{6})", theme))
        for letters in ("ink", "soft"):
            for ground in ("paper", "shade", "warn"):
                assert contrast(colors[letters], colors[ground]) >= 4.5, (letters, ground)
        for drawn in ("student", "teacher"):
            assert contrast(colors[drawn], colors["paper"]) >= 3
        assert contrast(colors["student"], colors["gone"]) >= 3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"result": 3}, "result must be an fsc.Result, its report or what .*, got int"),
        ({"result": {"flops": 1}}, "got one without 'method'"),
        ({"images": [1, 2]}, "images must be a tensor, or a tuple or dict of some, got int"),
        ({"images": ()}, "images must be a tensor, or a tuple or dict of some, got tuple"),
        ({"mean": (0.5,), "std": (0.5,)}, "each of the 3 channels of the images, got 1 and 1"),
        ({"mean": (0.5, 0.5, 0.5)}, "got 3 and none"),
        ({"std": (0.5, 0.5, 0.5)}, "got none and 3"),
        ({"images": torch.zeros(0, 3, 8, 8)}, r"images must hold values, got \[0, 3, 8, 8\]"),
        ({"images": torch.zeros(2, 0, 8, 8)}, r"images must hold values, got \[2, 0, 8, 8\]"),
        ({"images": torch.zeros(2, 3, 16, 16, device="meta")}, "values, got .* on the meta device"),
        ({"images": torch.full((2, 3, 16, 16), torch.nan)}, "images must be finite, got NaN or"),
        ({"images": torch.zeros(7, 3, 16, 16)}, "at most the 6 of the report, got 7"),
        ({"images": torch.zeros(2, 3, 8, 8)}, r"be \[N, 3, 16, 16\], .* got \[2, 3, 8, 8\]"),
        ({"images": torch.zeros(2, 1, 16, 16)}, r"\[N, 3, 16, 16\], .* got \[2, 1, 16, 16\]"),
        ({"images": torch.zeros(3, 16, 16)}, r"images must be \[N, 3, 16, 16\], .* \[3, 16, 16\]"),
    ],
)
def test_refuses_what_makes_no_page(solved, images, change, sentence):
    given = {"result": solved, "images": images} | change
    with pytest.raises((ValueError, TypeError), match=sentence):
        fsc.report.page(**given)


def test_numbers_below_zero_have_the_sign_for_minus():
    channel = {"mean": [-0.5], "deviation": [1.0], "minimum": [-2.0], "maximum": [2.0]}
    shown = fsc.report.page_tables.statistics(channel)
    assert ">\u22120.500<" in shown and ">\u22122.000<" in shown and ">2.000<" in shown
