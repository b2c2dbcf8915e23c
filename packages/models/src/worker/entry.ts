// The ready worker: loads whatever its pages ask for.
import { loadModel } from '../index.ts';
import { serveModel } from './serve_model.ts';

serveModel(loadModel);
