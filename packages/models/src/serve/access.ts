import { createHash, timingSafeEqual } from 'node:crypto';
import type { MiddlewareHandler } from 'hono';
import { APIError } from '../openai/index.ts';

/** Whether two texts are equal, in a time that does not tell how far they are. */
function isSame(one: string, other: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(one), digest(other));
}

/** Lets requests pass that bear a token. */
export function requireToken(token: string): MiddlewareHandler {
  return async (context, next) => {
    const given = /^Bearer +(\S+) *$/i.exec(context.req.header('authorization') ?? '')?.[1];
    if (given === undefined || !isSame(given, token)) {
      context.header('WWW-Authenticate', 'Bearer');
      throw new APIError(401, 'authentication_error', 'The request bears no valid token.', { code: 'invalid_api_key' });
    }
    await next();
  };
}

/**
 * Lets requests pass that were sent to one of these hosts: a page whose name was made to point to this machine would
 * reach a server that listens here alone, but it sends its own name.
 */
export function requireHost(hosts: readonly string[]): MiddlewareHandler {
  return async (context, next) => {
    const host = (context.req.header('host') ?? '').replace(/:\d+$/, '').toLowerCase();
    if (!hosts.includes(host)) {
      throw new APIError(403, 'permission_error', `This server does not answer for the host '${host}'.`, {
        code: 'unknown_host',
      });
    }
    await next();
  };
}

/** Lets bodies pass that say to be JSON: pages of other origins may send anything else without being asked. */
export function requireJson(): MiddlewareHandler {
  return async (context, next) => {
    const type = (context.req.header('content-type') ?? '').split(';')[0]?.trim().toLowerCase();
    if (type !== 'application/json') {
      throw new APIError(415, 'invalid_request_error', 'The body must have the type application/json.', {
        code: 'unsupported_media_type',
      });
    }
    await next();
  };
}
