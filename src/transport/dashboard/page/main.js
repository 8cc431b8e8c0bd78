// One script, two lives: the page, and the SharedWorker that reads the stream for all its tabs.

import { startPage } from "./app.js";
import { startWorker } from "./worker.js";

if (self.document) startPage();
else startWorker();
