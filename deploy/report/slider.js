"use strict";
// Two pictures over one another: the left one is seen left of a divider, which mouse, touch and arrow keys move.
// `viewer` holds the elements that are looked up here. `changed` is called when other pictures or another part of them
// are shown. A picture is {way, title, src, alt, figures, width, height}; those of one call of `show` cover each other.
function newSlider(viewer, changed = () => {}) {
  const one = (selector) => viewer.querySelector(selector);
  const stage = one(".stage"), divider = one(".stage input"), difference = one(".difference");
  const newImage = (kind) => Object.assign(document.createElement("img"), { className: kind, draggable: false });
  const sides = { left: { select: one("select.left"), image: newImage("over"), told: one(".told .left") },
                  right: { select: one("select.right"), image: newImage("under"), told: one(".told .right") } };
  const pair = document.createElement("div");
  pair.className = "pair";
  stage.prepend(pair);
  pair.append(sides.right.image, sides.left.image);
  const most = 1024;  // pixels a side that differences are measured on
  let pictures = [];

  const picture = (side) => pictures.find(({ way }) => way === side.select.value);

  // By a power of two that makes the difference of these two visible: int8 and float differ by less than one level.
  async function amplify() {
    const { width, height } = picture(sides.right);
    const share = Math.min(1, most / Math.max(width, height));
    const [across, down] = [Math.max(1, Math.round(width * share)), Math.max(1, Math.round(height * share))];
    const values = [];
    for (const side of Object.values(sides)) {
      await side.image.decode();
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [across, down];
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = share < 1;
      context.drawImage(side.image, 0, 0, across, down);
      values.push(context.getImageData(0, 0, across, down).data);
    }
    let squares = 0;
    values[0].forEach((value, at) => { squares += (value - values[1][at]) ** 2; });
    if (!difference.checked) return;  // it took a moment
    const usual = Math.sqrt(squares / (0.75 * values[0].length));  // the fourth value of a pixel is its opacity
    const factor = usual > 0 ? 2 ** Math.min(Math.max(Math.floor(Math.log2(32 / usual)), 0), 6) : 1;
    pair.style.filter = `brightness(${factor})`;
    one(".factor").textContent = usual > 0 ? `, amplified ${factor} times` : ": none";
  }

  function split() {
    stage.style.setProperty("--split", `${divider.value}%`);
    const right = 100 - Number(divider.value);
    const [onLeft, onRight] = [sides.left, sides.right].map((side) => picture(side)?.title ?? "");
    divider.setAttribute("aria-valuetext", `${divider.value} % ${onLeft}, ${right} % ${onRight}`);
    changed();
  }

  function draw() {
    for (const side of Object.values(sides)) {
      const { src, alt, title, figures } = picture(side);
      if (side.image.src !== src) side.image.src = src;
      side.image.alt = alt;
      const name = document.createElement("b");
      name.textContent = title;
      side.told.replaceChildren(name, document.createElement("br"), figures);
    }
    stage.classList.toggle("differs", difference.checked);
    if (difference.checked) amplify(); else { pair.style.filter = ""; one(".factor").textContent = ""; }
    split();
  }

  // The ways that were chosen stay chosen where these pictures have them; else those of `usual`, {left, right}.
  function show(shown, usual) {
    pictures = shown;
    for (const [name, side] of Object.entries(sides)) {
      const before = side.select.value;
      side.select.replaceChildren(...pictures.map(({ way, title }) => new Option(title, way)));
      side.select.value = pictures.some(({ way }) => way === before) ? before : usual[name];
    }
    draw();
  }

  for (const side of Object.values(sides)) side.select.addEventListener("change", draw);
  divider.addEventListener("input", split);
  difference.addEventListener("change", draw);
  return { stage, divider, pair, show, split, picture: () => picture(sides.right) };
}
