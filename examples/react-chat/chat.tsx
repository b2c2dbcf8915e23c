/** @jsxImportSource react */
import type { ReactElement } from 'react';
import { useState } from 'react';
import { useSession } from './use_session.ts';

/** A conversation as a transcript, which models without a chat template can go on with, too. */
export function Chat(): ReactElement {
  const { session, problem } = useSession();
  const [turns, setTurns] = useState<readonly string[]>([]);
  const [message, setMessage] = useState('');
  const [isWriting, setWriting] = useState(false);

  async function send(): Promise<void> {
    if (session === undefined || isWriting || message.trim() === '') return;
    setWriting(true);
    setMessage('');
    const before = [...turns, `You: ${message}`];
    let answer = 'Model:';
    try {
      const text = session.generate(`\nUser: ${message}\nAssistant:`, { maxTokens: 48, stop: '\nUser:' });
      for await (const piece of text) {
        answer += piece.text;
        setTurns([...before, answer]);
      }
    } catch (error) {
      setTurns([...before, String(error)]);
    }
    setWriting(false);
  }

  if (problem !== undefined) return <p role="alert">{problem.message}</p>;
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        void send();
      }}
    >
      <ol aria-live="polite" aria-busy={isWriting}>
        {turns.map((turn, index) => (
          <li key={index}>{turn}</li>
        ))}
      </ol>
      <label>
        Message <input value={message} onChange={({ target }) => setMessage(target.value)} />
      </label>
      <button disabled={session === undefined || isWriting}>Send</button>
    </form>
  );
}
