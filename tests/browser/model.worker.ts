// What an app writes as the file of its worker.
import { loadModel } from '@mambalab/models';
import { serveModel } from '@mambalab/models/worker';

serveModel(loadModel);
