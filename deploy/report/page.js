"use strict";
// The slider over two pictures. Everything it shows is in the page already: the strips of pictures.
(() => {
  const viewer = document.querySelector(".viewer");
  const strips = [...document.querySelectorAll(".strip")];
  if (!viewer || !strips.length) return;
  const one = (selector) => viewer.querySelector(selector);
  const stage = one(".stage"), divider = one(".stage input"), difference = one(".difference");
  const newImage = (kind) => Object.assign(document.createElement("img"), { className: kind });
  const sides = { left: { select: one("select.left"), image: newImage("over"), told: one(".told .left") },
                  right: { select: one("select.right"), image: newImage("under"), told: one(".told .right") } };
  const pair = document.createElement("div");
  pair.className = "pair";
  stage.prepend(pair);
  pair.append(sides.right.image, sides.left.image);
  let scene = 0;

  const pictures = (index) => [...strips[index].querySelectorAll("img")];
  const ways = () => pictures(scene).map((picture) => picture.dataset.way);
  const picture = (way) => pictures(scene).find((found) => found.dataset.way === way);

  // As many screen pixels per picture pixel as fit, a whole number of them, so that no pixel is wider than another.
  function fit() {
    const full = pictures(scene).at(-1);
    const dense = window.devicePixelRatio || 1;
    const room = viewer.parentElement.clientWidth;
    const times = Math.max(1, Math.floor((room * dense) / full.width));
    viewer.style.width = `${Math.min(room, (full.width * times) / dense)}px`;
    stage.style.aspectRatio = `${full.width} / ${full.height}`;
  }

  // By a power of two that makes the difference of these two visible: int8 and float differ by less than one level.
  async function amplify() {
    const full = pictures(scene).at(-1);
    const values = [];
    for (const side of Object.values(sides)) {
      await side.image.decode();
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [full.width, full.height];
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      context.drawImage(side.image, 0, 0, full.width, full.height);
      values.push(context.getImageData(0, 0, full.width, full.height).data);
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
    divider.setAttribute("aria-valuetext",
      `${divider.value} % ${sides.left.select.value}, ${right} % ${sides.right.select.value}`);
  }

  function show() {
    for (const side of Object.values(sides)) {
      const found = picture(side.select.value);
      side.image.src = found.src;
      side.image.alt = found.alt;
      const name = document.createElement("b");
      name.textContent = found.dataset.way;
      side.told.replaceChildren(name, document.createElement("br"), found.dataset.figures);
    }
    stage.classList.toggle("differs", difference.checked);
    if (difference.checked) amplify(); else { pair.style.filter = ""; one(".factor").textContent = ""; }
    fit();
    split();
  }

  function choose(index) {
    const before = Object.fromEntries(Object.entries(sides).map(([name, side]) => [name, side.select.value]));
    scene = index;
    [...one(".scenes").children].forEach((button, at) => button.setAttribute("aria-pressed", String(at === index)));
    const names = ways();
    const usual = { left: names.includes("bicubic") ? "bicubic" : names[0],
                    right: names.includes("int8") ? "int8" : names.includes("float32") ? "float32" : names.at(-1) };
    for (const [name, side] of Object.entries(sides)) {
      side.select.replaceChildren(...names.map((way) => new Option(way, way)));
      side.select.value = names.includes(before[name]) ? before[name] : usual[name];
    }
    show();
  }

  strips.forEach((strip, index) => {
    const button = document.createElement("button");
    const small = document.createElement("img");
    const last = pictures(index).at(-1);
    if (!last) return;
    small.src = last.src;
    small.alt = strip.dataset.name;
    button.type = "button";
    button.append(small);
    button.addEventListener("click", () => choose(index));
    one(".scenes").append(button);
  });
  one(".scenes").hidden = strips.length < 2;
  for (const side of Object.values(sides)) side.select.addEventListener("change", show);
  divider.addEventListener("input", split);
  difference.addEventListener("change", show);
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
