"""The pictures, side by side and under a slider."""

from base64 import b64encode

from deploy.images.files import encode_image
from deploy.report.gallery import INPUT, Gallery, Scene, Variant
from deploy.report.html.markup import Child, Markup, tag
from deploy.report.html.parts import Section, badge, definitions
from deploy.report.html.wording import count_of


def pictures_section(gallery: Gallery) -> Section:
    """The slider, which the page's script fills, and every picture once: what the script and paper show."""
    count = count_of(len(gallery.scenes), "picture")
    about = f"{count}, {gallery.origin}" + (f", enlarged {gallery.scale:g}×" if gallery.scale else "")
    ways: list[tuple[Child, Child]] = [(name, text) for name, text in gallery.ways.items()]
    ways += [((name, " ", badge("failed", "warn")), text) for name, text in gallery.failures.items()]
    strips = [_strip(scene, index) for index, scene in enumerate(gallery.scenes)]
    return Section(
        anchor="pictures",
        title="Pictures",
        lede=f"{about}, with the default preset; all ways of one begin at the same noise. Pixels are not smoothed.",
        body=(
            _viewer(),
            tag("details", tag("summary", "All pictures side by side"), strips, id="strips", open=True),
            tag("details", tag("summary", "How each was made"), definitions(ways), open=bool(gallery.failures)),
        ),
    )


def _viewer() -> Markup:
    """Empty and hidden until the script fills it, so that without scripts nothing is missing but the slider."""
    stage = tag(
        "div",
        tag("span", class_="divider", aria_hidden="true"),
        tag("input", type="range", min=0, max=100, value=50, step=1, aria_label="Divider between the two pictures"),
        class_="stage",
    )
    difference = tag(
        "label", tag("input", type="checkbox", class_="difference"), " Difference", tag("span", class_="factor")
    )
    return tag(
        "div",
        tag("div", class_="scenes", role="group", aria_label="Which picture"),
        tag("div", _choice("Left", "left"), _choice("Right", "right"), class_="choices"),
        stage,
        tag("div", tag("p", class_="left"), tag("p", class_="right"), class_="told", aria_live="polite"),
        tag("p", difference, class_="options"),
        class_="viewer",
        hidden=True,
    )


def _choice(label: str, side: str) -> Markup:
    return tag("label", tag("span", label), tag("select", class_=side), class_=side)


def _strip(scene: Scene, index: int) -> Markup:
    pictures = [tag("li", _figure(scene, variant)) for variant in scene.variants]
    heading = tag("h3", scene.name, tag("small", f" {scene.size[0]}×{scene.size[1]}"))
    return tag("div", heading, tag("ul", pictures), class_="strip", data_scene=index, data_name=scene.name)


def _figure(scene: Scene, variant: Variant) -> Markup:
    image = tag(
        "img",
        src=data_uri(variant),
        alt=f"{scene.name}, {variant.name}",
        width=scene.size[0],
        height=scene.size[1],
        data_way=variant.name,
        data_figures=variant.figures,
    )
    note = ", enlarged without any filter" if variant.name == INPUT else None
    return tag("figure", image, tag("figcaption", tag("b", variant.name), " ", variant.figures or None, note))


def data_uri(variant: Variant) -> str:
    """The picture itself as an address: WebP without loss, a quarter smaller than PNG."""
    return f"data:image/webp;base64,{b64encode(encode_image(variant.pixels, 'WEBP')).decode('ascii')}"
