/** Light or dark: as the system has it, until the button says otherwise; kept for the next visit. */

const KEPT = "recurve-theme";

export class Theme {
  /** @param changed called whenever the colours are others. */
  constructor(button, changed) {
    this.button = button;
    this.system = matchMedia("(prefers-color-scheme: dark)");
    this.changed = changed;
    this.chosen = localStorage.getItem(KEPT);
    this.#show();
    this.system.addEventListener("change", () => this.#show());
    button.addEventListener("click", () => {
      this.chosen = this.dark ? "light" : "dark";
      localStorage.setItem(KEPT, this.chosen);
      this.#show();
    });
  }

  get dark() {
    return (this.chosen ?? (this.system.matches ? "dark" : "light")) === "dark";
  }

  #show() {
    document.documentElement.dataset.theme = this.dark ? "dark" : "light";
    this.button.setAttribute("aria-pressed", String(this.dark));
    this.changed();
  }
}
