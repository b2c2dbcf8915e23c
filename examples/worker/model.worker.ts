import { loadModel } from '@mambalab/models';
import { serveModel } from '@mambalab/models/worker';

// Loads whatever the page asks for. `@mambalab/models/worker/entry` is this file, ready made.
serveModel(loadModel);
