// Elements, made by functions. Text stays text: nothing here parses HTML, so what strangers name their files does no harm.

export function h(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "data") Object.assign(element.dataset, value);
    else if (key in element && key !== "list" && key !== "role") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  play: "M7 4.5v15l12-7.5z",
  pause: "M6 4.5h4v15H6zM14 4.5h4v15h-4z",
  sound: "M4 9v6h4l5 4.5v-15L8 9zM16 8.5a5 5 0 0 1 0 7l1.2 1.2a6.7 6.7 0 0 0 0-9.4z",
  mute: "M4 9v6h4l5 4.5v-15L8 9zM15 9.5l5 5m0-5-5 5",
  full: "M4 9V4h5v2H6v3zM15 4h5v5h-2V6h-3zM4 15h2v3h3v2H4zM18 15h2v5h-5v-2h3z",
  up: "M12 4l6 6-1.4 1.4L13 7.8V20h-2V7.8l-3.6 3.6L6 10z",
  back: "M14 5l1.4 1.4L9.8 12l5.6 5.6L14 19l-7-7z",
  file: "M6 3h8l5 5v13H6zM13 4.5V9h4.5z",
};

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("icon");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

let silence;
// Says something for a few seconds, to screen readers too.
export function tell(text, kind = "good") {
  const told = document.getElementById("told");
  told.replaceChildren(h(`p.note.${kind}`, {}, text));
  clearTimeout(silence);
  silence = setTimeout(() => told.replaceChildren(), 6000);
}

// Asks a question; true where the answer is yes.
export function ask(title, lead, yes, no) {
  return new Promise((answer) => {
    const dialog = h(
      "dialog.question",
      { onclose: () => { dialog.remove(); answer(dialog.returnValue === "yes"); }, "aria-labelledby": "question" },
      h("form", { method: "dialog" },
        h("h2", { id: "question" }, title),
        h("p", {}, lead),
        h("div.actions", {},
          h("button", { value: "no", autofocus: true }, no),
          h("button.danger", { value: "yes" }, yes))),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}
