"use strict";
// Looking closer at what the slider shows: whole numbers of screen pixels per picture pixel, and moving about.

function newZoom(slider, buttons) {
  const { stage, pair, divider } = slider;
  const LEVELS = [1, 2, 3, 4, 6, 8];
  let times = 0;  // screen pixels per picture pixel; 0 is as many as fit
  let middle = [0.5, 0.5];  // what lies in the middle of the stage, in shares of the picture
  let corner = [0, 0];  // of the picture on the stage
  const touches = new Map();
  let drag = null;
  const dense = () => window.devicePixelRatio || 1;
  const room = () => [stage.clientWidth, stage.clientHeight];

  function fitting() {
    const { width, height } = slider.picture();
    const fit = Math.min(room()[0] / width, tallest() / height) * dense();
    return fit > 1 ? Math.floor(fit) : fit;
  }
  const tallest = () => parseFloat(getComputedStyle(stage).maxHeight) || stage.clientHeight;
  const current = () => times || fitting();
  const extent = () => {
    const { width, height } = slider.picture();
    return [width, height].map((side) => (side * current()) / dense());
  };

  function place() {
    if (!slider.picture() || !stage.clientWidth) return;
    stage.style.height = `${(slider.picture().height * fitting()) / dense()}px`;
    const sides = extent(), rooms = room();
    corner = sides.map((side, axis) => {
      const free = rooms[axis] - side;
      const at = free >= 0 ? free / 2 : Math.min(0, Math.max(free, rooms[axis] / 2 - middle[axis] * side));
      return Math.round(at * dense()) / dense();
    });
    middle = sides.map((side, axis) => (rooms[axis] / 2 - corner[axis]) / side);
    pair.style.width = `${sides[0]}px`;
    pair.style.height = `${sides[1]}px`;
    pair.style.transform = `translate(${corner[0]}px, ${corner[1]}px)`;
    pair.style.setProperty("--split", `${(rooms[0] * divider.value) / 100 - corner[0]}px`);
    stage.classList.toggle("smooth", current() < 1);
    stage.classList.toggle("pans", sides.some((side, axis) => side > rooms[axis] + 1));
    for (const button of buttons) button.setAttribute("aria-pressed", String(Number(button.value) === times));
  }

  // What lies at a place of the window stays there.
  function zoomTo(next, at = null) {
    const box = stage.getBoundingClientRect();
    const spot = at ? [at[0] - box.left, at[1] - box.top] : room().map((side) => side / 2);
    const share = extent().map((side, axis) => (spot[axis] - corner[axis]) / side);
    times = next;
    const sides = extent();
    middle = sides.map((side, axis) => share[axis] + (room()[axis] / 2 - spot[axis]) / side);
    place();
  }

  function stepBy(direction, at = null) {
    const now = current();
    const next = direction > 0 ? LEVELS.find((level) => level > now) : LEVELS.findLast((level) => level < now);
    if (direction < 0 && (next === undefined || next <= fitting())) zoomTo(0, at);
    else zoomTo(next ?? LEVELS.at(-1), at);
  }

  function pan(across, down) {
    const sides = extent();
    middle = [middle[0] - across / sides[0], middle[1] - down / sides[1]];
    place();
  }

  const gap = () => {
    const [[x1, y1], [x2, y2]] = [...touches.values()];
    return { wide: Math.hypot(x2 - x1, y2 - y1), at: [(x1 + x2) / 2, (y1 + y2) / 2] };
  };

  stage.addEventListener("pointerdown", (event) => {
    if (event.defaultPrevented || event.button !== 0) return;
    touches.set(event.pointerId, [event.clientX, event.clientY]);
    if (touches.size === 2) {
      drag = { ...gap(), kind: "pinch", from: current() };
    } else if (stage.classList.contains("pans")) {
      event.preventDefault();
      drag = { kind: event.target.classList.contains("divider") ? "divide" : "pan" };
      if (drag.kind === "divide") divider.focus({ preventScroll: true });
      stage.setPointerCapture(event.pointerId);
      stage.classList.add("held");
    }
  });
  stage.addEventListener("pointermove", (event) => {
    const before = touches.get(event.pointerId);
    if (!before) return;
    touches.set(event.pointerId, [event.clientX, event.clientY]);
    if (drag?.kind === "pinch" && touches.size === 2) {
      const { wide, at } = gap();
      const next = Math.min(LEVELS.at(-1), (drag.from * wide) / drag.wide);
      zoomTo(next <= fitting() ? 0 : next, at);
    } else if (drag?.kind === "divide") {
      const box = stage.getBoundingClientRect();
      divider.value = (100 * (event.clientX - box.left)) / box.width;
      slider.split();
    } else if (drag?.kind === "pan") {
      pan(event.clientX - before[0], event.clientY - before[1]);
    }
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    window.addEventListener(kind, (event) => {
      touches.delete(event.pointerId);
      if (!touches.size) { drag = null; stage.classList.remove("held"); }
    });
  }
  stage.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;  // the page itself scrolls
    event.preventDefault();
    stepBy(event.deltaY < 0 ? 1 : -1, [event.clientX, event.clientY]);
  }, { passive: false });
  stage.addEventListener("dblclick", (event) => {
    if (times) zoomTo(0); else stepBy(1, [event.clientX, event.clientY]);
  });
  stage.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest(".crop")) return;
    const onStage = event.target === stage;  // where there is no divider, arrows need no Shift
    const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (moves && (event.shiftKey || onStage)) pan(...moves);
    else if (event.key === "+" || event.key === "=") stepBy(1);
    else if (event.key === "-") stepBy(-1);
    else if (event.key === "0") zoomTo(0);
    else return;
    event.preventDefault();
  });
  for (const button of buttons) button.addEventListener("click", () => zoomTo(Number(button.value)));
  new ResizeObserver(() => requestAnimationFrame(place)).observe(stage);  // it changes the height of the stage
  return { place, reset: () => { times = 0; place(); } };
}
