export { createApp } from './app.ts';
export type { AppOptions, ServedApp } from './app.ts';
export { logLine } from './request_log.ts';
export type { RequestLog } from './request_log.ts';
export { startServer } from './server.ts';
export type { RunningServer, ServerOptions } from './server.ts';
