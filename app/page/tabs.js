/** Tabs as the WAI-ARIA Authoring Practices have them: arrow keys move and choose, one of them is in the order of Tab. */

export class Tabs {
  /** @param list the element with role tablist; @param changed called with the id of the panel that is shown. */
  constructor(list, changed) {
    this.tabs = [...list.querySelectorAll("[role=tab]")];
    this.changed = changed;
    for (const tab of this.tabs) tab.addEventListener("click", () => this.choose(tab));
    list.addEventListener("keydown", (event) => this.#move(event));
    const named = this.tabs.find((tab) => `#/${tab.dataset.name}` === location.hash);
    this.choose(named ?? this.tabs[0]);
  }

  choose(chosen) {
    for (const tab of this.tabs) {
      const is = tab === chosen;
      tab.setAttribute("aria-selected", String(is));
      tab.tabIndex = is ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")).hidden = !is;
    }
    history.replaceState(null, "", `#/${chosen.dataset.name}`);
    this.changed(chosen.dataset.name);
  }

  #move(event) {
    const at = this.tabs.indexOf(document.activeElement), count = this.tabs.length;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1 + count, Home: 0, End: count - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const tab = this.tabs[to % count];
    tab.focus();
    this.choose(tab);
  }
}
