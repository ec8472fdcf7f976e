/** The page: its parts, put together. */

import { forgetColours } from "./charts.js";
import { find, say } from "./dom.js";
import { Live } from "./live.js";
import { Predict } from "./predict.js";
import { Service, ServiceError } from "./service.js";
import { Tabs } from "./tabs.js";
import { Theme } from "./theme.js";

const AGAIN = 2000; // milliseconds

const service = new Service();
const live = new Live(service);
const predict = new Predict(service);

new Theme(find("#theme"), () => {
  forgetColours();
  live.scene.redraw();
  predict.redraw();
});
new Tabs(find("[role=tablist]"), (name) => {
  live.show(name === "live");
  predict.shown(name === "predict");
});

const dialog = find("#key-dialog");
service.onKeyWanted = () => {
  if (!dialog.open) dialog.showModal();
};
find("#key-form").addEventListener("submit", () => {
  service.setKey(find("#key").value.trim());
  find("#key").value = "";
  live.begin();
  predict.again();
});

/** The models, as soon as there are any. */
async function begin() {
  try {
    const health = await service.health();
    say(find("#release"), health.version);
    const served = await service.models();
    predict.use(served);
    live.use(served);
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    say(find("#status"), `${error.message} Trying again …`);
    setTimeout(begin, AGAIN);
  }
}

if (!window.uPlot) say(find("#status"), "The library that draws the plots is not there: install the service's requirements again.");
else begin();
