import { hybrid } from '@mambalab/checkpoints';
import type { Session } from '@mambalab/models';
import { loadModel } from '@mambalab/models';
import { useEffect, useState } from 'react';

/** A session of the shipped model, loaded when the component is there and freed when it leaves. */
export function useSession(): { readonly session: Session | undefined; readonly problem: Error | undefined } {
  const [session, setSession] = useState<Session>();
  const [problem, setProblem] = useState<Error>();

  useEffect(() => {
    const abort = new AbortController();
    const { signal } = abort;
    const load = async (): Promise<void> => {
      const model = await loadModel(hybrid, { signal });
      signal.addEventListener('abort', () => model.dispose());
      setSession(model.session());
    };
    load().catch((error: unknown) => {
      if (!signal.aborted) setProblem(error instanceof Error ? error : new Error(String(error)));
    });
    return () => abort.abort();
  }, []);

  return { session, problem };
}
