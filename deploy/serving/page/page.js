"use strict";
// Beginning: what each control does, and the first question to the server.

function askToken(wasWrong) {
  const dialog = by("token-dialog");
  by("token").value = "";
  if (wasWrong) by("token-why").textContent = "That was not this server's token. Its operator has it: what stands in the file of --token-file.";
  dialog.returnValue = "";
  dialog.showModal();
  by("token").focus();
  return new Promise((found) => {
    dialog.onclose = () => found(dialog.returnValue === "given" ? by("token").value.trim() : null);
    by("token-form").onsubmit = (event) => {
      event.preventDefault();
      if (by("token").value.trim()) dialog.close("given");
    };
    by("token-none").onclick = () => dialog.close("");
  });
}

async function begin() {
  try {
    offer = await server.json("v1/models");
  } catch (error) {
    if (error.status === 503) {  // it is still starting
      warn(error.message);
      await pause(error.retryAfter ?? 1);
      return begin();
    }
    if (error.isGone) lost(error);
    else if (error.status === 401) warn("The server wants a token. Reload the page to give it.");
    else warn(error.message);
    return;
  }
  warn("");
  if (!offer.models.length) { warn("This server has no model that enlarges pictures."); offer = null; return; }
  fillSettings();
  const { max_pixels: pixels, max_upload: bytes } = offer.limits;
  by("takes").textContent = `PNG, JPEG, WebP, TIFF, AVIF, JPEG XL, HEIC …, up to ${bytesText(bytes)} each and ${megapixels(pixels)} large`;
  settingsChanged();
}

const isHere = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
by("home").textContent = isHere ? "Pictures are enlarged on this machine and do not leave it."
  : `Pictures are enlarged on ${location.hostname} and go nowhere else.`;
document.body.classList.add("empty");
wish = recall();

for (const [button, input] of [["choose-files", "files"], ["choose-folder", "folder"], ["add", "files"], ["add-folder", "folder"]]) {
  by(button).addEventListener("click", () => by(input).click());
}
for (const id of ["files", "folder"]) {
  by(id).addEventListener("change", () => {
    const found = filesFromInput(by(id));
    by(id).value = "";
    add(found, id === "folder");
  });
}
const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
let depth = 0;
const land = (isOver) => { by("landing").hidden = !isOver; if (!isOver) depth = 0; };
window.addEventListener("dragenter", (event) => { if (carriesFiles(event)) { depth += 1; land(true); } });
window.addEventListener("dragleave", (event) => { if (carriesFiles(event) && (depth -= 1) <= 0) land(false); });
window.addEventListener("dragover", (event) => { if (carriesFiles(event)) { event.preventDefault(); event.dataTransfer.dropEffect = "copy"; } });
window.addEventListener("drop", async (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  land(false);
  const isFolder = [...event.dataTransfer.items].some((item) => item.webkitGetAsEntry?.()?.isDirectory);
  add(await filesFromTransfer(event.dataTransfer), isFolder);
});
window.addEventListener("paste", async (event) => {
  if (!event.clipboardData?.files.length) return;
  event.preventDefault();
  add(await filesFromTransfer(event.clipboardData));
});

for (const id of ["sizes", "other-size", "presets", "format", "quality", "seed"]) {
  by(id).addEventListener(id === "other-size" || id === "seed" ? "input" : "change", () => { if (offer) settingsChanged(); });
}
by("model").addEventListener("change", () => { if (offer) { fillPresets(); settingsChanged(); } });
by("more").addEventListener("toggle", () => { if (offer) keepSettings(); });
by("usual").addEventListener("click", () => { if (offer) { wish = { ...USUAL, more: true }; fillSettings(); settingsChanged(); } });
by("start").addEventListener("click", startAll);
by("only-this").addEventListener("click", () => startOne(null));
by("try-part").addEventListener("click", () => { if (by("part").hidden) openPart(); else closePart(); });
by("close-part").addEventListener("click", () => { closePart(); by("try-part").focus(); });
by("start-part").addEventListener("click", () => { if (crop.part()) { startOne({ ...crop.part() }); by("try-part").focus(); } });
by("part").addEventListener("keydown", (event) => {
  if (event.key === "Escape") by("close-part").click();
  else if (event.key === "Enter" && event.target.type === "number") { event.target.blur(); by("start-part").click(); }
});
slider.pair.addEventListener("keydown", (event) => {
  if (event.key === "Escape") by("close-part").click();
  else if (event.key === "Enter" && crop.part() && !by("start-part").disabled) by("start-part").click();
});
for (const side of ["left", "right"]) {
  viewer.querySelector(`select.${side}`).addEventListener("change", ({ target }) => { liked[side] = target.value; });
}
by("cancel-all").addEventListener("click", () => {
  for (const version of batch) cancel(version, true);
  changed();
  say("All cancelled.");
  pump();
  by("start").focus();
});
by("save-all").addEventListener("click", saveAll);
by("remove-all").addEventListener("click", () => { removeAll(); by("choose-files").focus(); });
window.addEventListener("beforeunload", (event) => { if (isBusy()) event.preventDefault(); });
window.addEventListener("pagehide", () => {
  for (const { id, state } of batch) if (id && !OVER.includes(state)) server.leave(`v1/jobs/${id}`);
});

begin();
