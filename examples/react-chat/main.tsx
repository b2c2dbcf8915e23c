/** @jsxImportSource react */
import { createRoot } from 'react-dom/client';
import { Chat } from './chat.tsx';

const root = document.getElementById('app');
if (root !== null) createRoot(root).render(<Chat />);
