"use strict";
// A part of the picture, chosen by pointer, arrow keys or numbers, to try settings on. Its unit is the picture's pixel.

const SMALLEST_PART = 8;
const USUAL_PART = 96;

function newCrop(slider, fields, changed) {
  const { stage, pair } = slider;
  const frame = document.createElement("div");
  frame.className = "crop";
  frame.tabIndex = 0;
  frame.hidden = true;
  frame.setAttribute("role", "group");
  frame.append(Object.assign(document.createElement("span"), { className: "grip" }));
  pair.append(frame);
  let whole = { width: 1, height: 1 };
  let part = { x: 0, y: 0, width: 1, height: 1 };
  let drag = null;

  const within = (value, low, high) => Math.min(Math.max(Math.round(value), low), Math.max(low, high));

  function set({ x, y, width, height }) {
    const least = (side) => Math.min(SMALLEST_PART, side);
    width = within(width, least(whole.width), whole.width);
    height = within(height, least(whole.height), whole.height);
    part = { x: within(x, 0, whole.width - width), y: within(y, 0, whole.height - height), width, height };
    frame.style.left = `${(100 * part.x) / whole.width}%`;
    frame.style.top = `${(100 * part.y) / whole.height}%`;
    frame.style.width = `${(100 * part.width) / whole.width}%`;
    frame.style.height = `${(100 * part.height) / whole.height}%`;
    const place = `${part.width} by ${part.height} pixels, ${part.x} from the left, ${part.y} from the top`;
    frame.setAttribute("aria-label", `Part to try: ${place}. Arrow keys move it, with Shift they change its size.`);
    for (const [name, field] of Object.entries(fields)) {
      field.max = name === "x" || name === "width" ? whole.width : whole.height;
      if (document.activeElement !== field) field.value = part[name];
    }
    changed(part);
  }

  function open(size, before) {
    whole = size;
    const side = Math.min(USUAL_PART, Math.ceil(Math.min(whole.width, whole.height) / 2));
    frame.hidden = false;
    stage.classList.add("cropping");
    set(before ?? { x: (whole.width - side) / 2, y: (whole.height - side) / 2, width: side, height: side });
  }

  function close() {
    frame.hidden = true;
    stage.classList.remove("cropping");
  }

  const spot = (event) => {
    const box = pair.getBoundingClientRect();
    return [((event.clientX - box.left) * whole.width) / box.width, ((event.clientY - box.top) * whole.height) / box.height];
  };

  stage.addEventListener("pointerdown", (event) => {
    if (frame.hidden || event.button !== 0) return;
    event.preventDefault();  // the zoom leaves it alone then
    const from = spot(event);
    const kind = event.target.classList.contains("grip") ? "size" : event.target === frame ? "move" : "draw";
    drag = { kind, from, before: part };
    frame.focus({ preventScroll: true });
    stage.setPointerCapture(event.pointerId);
  }, { capture: true });
  stage.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const [x, y] = spot(event), [x0, y0] = drag.from, { before } = drag;
    if (drag.kind === "move") set({ ...before, x: before.x + x - x0, y: before.y + y - y0 });
    else if (drag.kind === "size") {
      set({ ...before, width: Math.min(before.width + x - x0, whole.width - before.x),
            height: Math.min(before.height + y - y0, whole.height - before.y) });
    } else if (Math.hypot(x - x0, y - y0) > 2) {
      set({ x: Math.max(0, Math.min(x, x0)), y: Math.max(0, Math.min(y, y0)), width: Math.abs(x - x0), height: Math.abs(y - y0) });
    }
  });
  for (const kind of ["pointerup", "pointercancel"]) window.addEventListener(kind, () => { drag = null; });
  frame.addEventListener("keydown", (event) => {
    const step = event.altKey ? 1 : Math.max(1, Math.round(Math.max(whole.width, whole.height) / 64));
    const way = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (!way) return;
    event.preventDefault();
    if (event.shiftKey) set({ ...part, width: part.width + way[0], height: part.height + way[1] });
    else set({ ...part, x: part.x + way[0], y: part.y + way[1] });
  });
  for (const [name, field] of Object.entries(fields)) {
    field.addEventListener("change", () => { set({ ...part, [name]: Number(field.value) || 0 }); field.value = part[name]; });
  }
  return { open, close, part: () => (frame.hidden ? null : part) };
}
