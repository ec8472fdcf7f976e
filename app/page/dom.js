/** The few things that are done with the document again and again. */

export function find(selector, within = document) {
  const found = within.querySelector(selector);
  if (!found) throw new Error(`There is no ${selector} in the page.`);
  return found;
}

/** A new element with a class, a text, and children. */
export function make(tag, { text, ...properties } = {}, children = []) {
  const element = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) element.textContent = text;
  element.append(...children);
  return element;
}

/** Change a text only where it is another one: what is read aloud is not read twice. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Offer a text as a file. */
export function download(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Take files that are dropped on an element, or chosen with its button: `take(file)`. */
export function onFile(target, button, input, take) {
  const read = async (files) => {
    if (files.length) await take(files[0]);
  };
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", async () => {
    await read(input.files);
    input.value = ""; // so that the same file may be chosen again
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    target.addEventListener(kind, (event) => {
      event.preventDefault();
      target.classList.toggle("dropping", kind === "dragover");
      if (kind === "drop") read(event.dataTransfer.files);
    });
  }
}
