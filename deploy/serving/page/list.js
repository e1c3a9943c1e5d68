"use strict";
// The list of pictures: adding, removing, what its rows say, saving.

async function add(found, fromFolder = false) {
  const sane = found.filter(({ file }) => isPicture(file));
  const others = found.length - sane.length;
  const limit = offer?.limits.max_upload;
  const added = sane.map(({ file, path }) => {
    const picture = { file, path: path || file.name || "pasted.png", name: path || file.name || "pasted.png", size: null,
                      address: URL.createObjectURL(file), isReadable: null, versions: [], trouble: null, row: null };
    if (limit && file.size > limit) {
      picture.trouble = `The file has ${bytesText(file.size)}; this server takes at most ${bytesText(limit)}.`;
    }
    pictures.push(picture);
    picture.row = newRow(picture);
    by("pictures").append(picture.row.item);
    return picture;
  });
  const left = others === 0 ? "" : fromFolder || others > 1
    ? `${countOf(others, "file")} left out: no picture that can be read.`
    : `${found.find(({ file }) => !isPicture(file)).file.name} is no picture that can be read.`;
  warn(isGone ? by("alarm").textContent : left);
  if (!added.length) return;
  say(`${countOf(added.length, "picture")} added.`);
  if (!shown) select(added[0], null);
  changed();
  const queue = [...added];
  await Promise.all(Array.from({ length: 4 }, async () => {
    for (let picture = queue.shift(); picture; picture = queue.shift()) {
      const size = await sizeFromAddress(picture.address);
      picture.size = size ?? await sizeFromHeader(picture.file);
      picture.isReadable = size !== null;
      if (picture === shown) drawViewer();
      drawSoon();
    }
  }));
}

function remove(picture, isOfMany = false) {
  for (const version of [...picture.versions]) drop(version);
  pictures.splice(pictures.indexOf(picture), 1);
  picture.row.item.remove();
  URL.revokeObjectURL(picture.address);
  if (isOfMany) return;
  if (shown === picture) { closePart(); shown = shownVersion = null; if (pictures.length) select(pictures[0]); }
  changed();
}

function removeAll() {
  closePart();
  shown = shownVersion = null;
  for (const picture of [...pictures]) remove(picture, true);
  changed();
}

function newRow(picture) {
  const suffix = picture.path.split(".").pop().slice(0, 4).toUpperCase();
  const image = newElement("img", { src: picture.address, alt: "", loading: "lazy", decoding: "async" });
  const thumb = newElement("span", { className: "thumb", "data-suffix": suffix }, image);
  image.addEventListener("error", () => { thumb.classList.add("unreadable"); });
  const facts = newElement("span", { className: "facts" });
  const open = newElement("button", { type: "button", className: "open" }, thumb,
    newElement("span", { className: "words" }, newElement("span", { className: "name", title: picture.path }, picture.name), facts));
  const away = newElement("button", { type: "button", className: "plain away", "aria-label": `Remove ${picture.name}` }, "×");
  const versions = newElement("ul", { className: "versions" });
  open.addEventListener("click", () => { select(picture); reveal(); });
  away.addEventListener("click", () => {
    const next = picture.row.item.nextElementSibling ?? picture.row.item.previousElementSibling;
    remove(picture);
    (next?.querySelector(".open") ?? by("choose-files")).focus();
  });
  return { item: newElement("li", {}, open, away, versions), open, facts, versions, rows: new Map() };
}

function factsOf(picture) {
  if (picture.trouble) return picture.trouble;
  if (picture.isReadable === null) return "…";
  if (!picture.size) return `${bytesText(picture.file.size)}, size known once it is made`;
  const { width, height } = picture.size;
  const settings = offer ? settingsNow() : "";
  const forecast = offer && typeof settings !== "string" ? forecastOf(picture, settings) : null;
  if (forecast?.trouble) return forecast.trouble;
  const then = forecast ? ` → ${sizeText(forecast.width, forecast.height)}` : "";
  const isTold = forecast && Number.isFinite(forecast.seconds) && !isMade(picture, settings);
  return `${sizeText(width, height)}${then}${isTold ? `, ${aboutText(forecast.seconds)}` : ""}`;
}

function drawPicture(picture) {
  const { row } = picture;
  row.facts.textContent = factsOf(picture);
  row.facts.classList.toggle("wrong", Boolean(picture.trouble || (offer && picture.size && typeof settingsNow() !== "string"
    && forecastOf(picture, settingsNow())?.trouble)));
  row.item.classList.toggle("shown", picture === shown);
  if (picture === shown) row.open.setAttribute("aria-current", "true"); else row.open.removeAttribute("aria-current");
  for (const [version, line] of row.rows) if (!picture.versions.includes(version)) { line.item.remove(); row.rows.delete(version); }
  for (const version of picture.versions) {
    if (!row.rows.has(version)) {
      row.rows.set(version, newLine(version));
      row.versions.append(row.rows.get(version).item);
    }
    drawLine(version, row.rows.get(version));
  }
  row.versions.hidden = !picture.versions.length;
}

function newLine(version) {
  const { picture } = version;
  const bar = newElement("progress", { max: 1, value: 0, "aria-label": `${picture.name}, ${version.title}` });
  const note = newElement("span", { className: "note" });
  const title = newElement("button", { type: "button", className: "plain title" }, version.title);
  const act = newElement("button", { type: "button", className: "plain act" });
  title.addEventListener("click", () => { select(picture, version); reveal(); });
  act.addEventListener("click", () => {
    if (version.state === "done") save(version.blob, version.name.split("/").pop());
    else if (OVER.includes(version.state)) again(version);
    else { cancel(version); pump(); }
  });
  return { item: newElement("li", {}, title, note, act, bar), bar, note, act, title };
}

function drawLine(version, { item, bar, note, act, title }) {
  const { state, picture } = version;
  item.className = state;
  item.classList.toggle("seen", version === shownVersion && picture === shown);
  bar.hidden = OVER.includes(state);
  if (state === "running" && version.share > 0) bar.value = version.share;
  else if (state === "waiting") bar.value = 0;
  else bar.removeAttribute("value");
  const notes = { waiting: "waiting", cancelled: "cancelled" };
  const words = notes[state] ?? version.note;
  if (note.textContent !== words) note.textContent = words;
  const verb = state === "done" ? "Save" : OVER.includes(state) ? "Again" : "Cancel";
  if (act.textContent !== verb) {
    act.textContent = verb;
    act.setAttribute("aria-label", `${verb} ${picture.name}, ${version.title}`);
  }
  title.setAttribute("aria-label", `Show ${picture.name}, ${version.title}`);
}

function changed(version = null) {
  if (version) {
    drawPicture(version.picture);
    planSoon();
  } else {
    for (const picture of pictures) drawPicture(picture);
    planAll();
    drawTotal();
  }
  if (!version || version.picture === shown) drawViewer();
}

const isBusy = () => batch.some(({ state }) => !OVER.includes(state));

function drawTotal() {
  by("total").hidden = !isBusy();
  if (!isBusy()) { document.title = "Enlarge pictures · idm-deploy"; return; }
  const known = batch.map(({ expected }) => expected).filter(Number.isFinite);
  const usual = known.length ? known.reduce((sum, seconds) => sum + seconds, 0) / known.length : 1;
  const weight = ({ expected }) => expected ?? usual;
  const share = ({ state, share }) => (OVER.includes(state) ? 1 : share);
  const whole = batch.reduce((sum, version) => sum + weight(version), 0);
  const done = batch.reduce((sum, version) => sum + weight(version) * share(version), 0);
  by("total-bar").value = whole ? done / whole : 0;
  const count = batch.filter(({ state }) => OVER.includes(state)).length;
  const left = known.length ? `, ${aboutText(whole - done)} left` : "";
  by("total-text").textContent = `${count} of ${batch.length} done${left}`;
  document.title = `${count} of ${batch.length} · idm-deploy`;
}

function save(blob, name) {
  const address = URL.createObjectURL(blob);
  newElement("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

async function saveAll() {
  const button = by("save-all");
  const results = pictures.flatMap(({ versions }) => versions.filter(({ state }) => state === "done"));
  button.disabled = true;
  try {
    save(await zipFrom(results.map(({ name, blob, made }) => ({ name, blob, date: made }))), "enlarged.zip");
    say(`${countOf(results.length, "picture")} in enlarged.zip.`);
  } catch (error) {
    warn(error.message);
  } finally {
    button.disabled = false;
  }
}

