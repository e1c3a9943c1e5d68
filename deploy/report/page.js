"use strict";
// The report's slider. Everything it shows is in the page already: the strips of pictures.
(() => {
  const viewer = document.querySelector(".viewer");
  const strips = [...document.querySelectorAll(".strip")];
  if (!viewer || !strips.length) return;
  const scenes = viewer.querySelector(".scenes");
  const slider = newSlider(viewer, fit);

  const images = (index) => [...strips[index].querySelectorAll("img")];
  const pictureOf = (image) => {
    const { way, figures } = image.dataset;
    const [width, height] = ["width", "height"].map((side) => Number(image.getAttribute(side)));  // it may be folded
    return { way, title: way, figures, src: image.src, alt: image.alt, width, height };
  };

  // As many screen pixels per picture pixel as fit, a whole number of them, so that no pixel is wider than another.
  function fit() {
    const full = slider.picture();
    if (!full) return;
    const dense = window.devicePixelRatio || 1;
    const room = viewer.parentElement.clientWidth;
    const times = Math.max(1, Math.floor((room * dense) / full.width));
    viewer.style.width = `${Math.min(room, (full.width * times) / dense)}px`;
    slider.stage.style.aspectRatio = `${full.width} / ${full.height}`;
  }

  function choose(index) {
    [...scenes.children].forEach((button, at) => button.setAttribute("aria-pressed", String(at === index)));
    const pictures = images(index).map(pictureOf);
    const names = pictures.map(({ way }) => way);
    const usual = (...ways) => ways.find((way) => names.includes(way));
    slider.show(pictures, { left: usual("bicubic", names[0]), right: usual("int8", "float32", names.at(-1)) });
  }

  strips.forEach((strip, index) => {
    const button = document.createElement("button");
    const small = document.createElement("img");
    const last = images(index).at(-1);
    if (!last) return;
    small.src = last.src;
    small.alt = strip.dataset.name;
    button.type = "button";
    button.append(small);
    button.addEventListener("click", () => choose(index));
    scenes.append(button);
  });
  scenes.hidden = strips.length < 2;
  window.addEventListener("resize", fit);

  // On paper every picture is wanted, on the screen the slider has them.
  const folded = [...document.querySelectorAll("details")];
  document.getElementById("strips").open = false;
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = folded.filter((part) => part.open);
    folded.forEach((part) => { part.open = true; });
  });
  window.addEventListener("afterprint", () => folded.forEach((part) => { part.open = opened.includes(part); }));

  viewer.hidden = false;
  choose(0);
})();
