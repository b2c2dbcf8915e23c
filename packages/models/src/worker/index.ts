export { createWorkerModel } from './create_worker_model.ts';
export type { WorkerModelOptions, WorkerTarget } from './create_worker_model.ts';
export type { ModelLoader } from './model_shelf.ts';
export type { WorkerModel } from './remote_model.ts';
export type { RemoteSession } from './remote_session.ts';
export type { RemoteText } from './remote_text.ts';
export { serveModel, servePort } from './serve_model.ts';
export type { ServedSource } from './serve_model.ts';
