// Serves a checkpoint of about 1 GB that exists nowhere: its bytes are made when they are asked for. A process of its
// own, so that what it needs is not counted as the loader's. Sends its port to whoever forks it.
import { createServer } from 'node:http';

const hidden = 2048;
const inner = 5632;
const kv = 256;
const vocab = 32_000;
const layers = 9;
const config = {
  model_type: 'llama',
  hidden_size: hidden,
  intermediate_size: inner,
  num_hidden_layers: layers,
  num_attention_heads: 32,
  num_key_value_heads: 4,
  vocab_size: vocab,
  max_position_embeddings: 2048,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: false,
};

const shapes = { 'lm_head.weight': [vocab, hidden], 'model.embed_tokens.weight': [vocab, hidden] };
for (let layer = 0; layer < layers; layer++) {
  const at = `model.layers.${layer}`;
  shapes[`${at}.input_layernorm.weight`] = [hidden];
  shapes[`${at}.mlp.down_proj.weight`] = [hidden, inner];
  shapes[`${at}.mlp.gate_proj.weight`] = [inner, hidden];
  shapes[`${at}.mlp.up_proj.weight`] = [inner, hidden];
  shapes[`${at}.post_attention_layernorm.weight`] = [hidden];
  shapes[`${at}.self_attn.k_proj.weight`] = [kv, hidden];
  shapes[`${at}.self_attn.o_proj.weight`] = [hidden, hidden];
  shapes[`${at}.self_attn.q_proj.weight`] = [hidden, hidden];
  shapes[`${at}.self_attn.v_proj.weight`] = [kv, hidden];
}
shapes['model.norm.weight'] = [hidden];

const header = {};
let dataBytes = 0;
for (const [name, shape] of Object.entries(shapes)) {
  const bytes = 2 * shape.reduce((product, size) => product * size, 1);
  header[name] = { dtype: 'BF16', shape, data_offsets: [dataBytes, dataBytes + bytes] };
  dataBytes += bytes;
}
const json = Buffer.from(JSON.stringify(header));
const padding = (8 - (json.byteLength % 8)) % 8;
const start = Buffer.concat([Buffer.alloc(8), json, Buffer.alloc(padding, ' ')]);
start.writeBigUInt64LE(BigInt(json.byteLength + padding));
const size = start.byteLength + dataBytes;

/** The data repeats these bytes: small bf16 numbers. Word i of the data is word i % PERIOD of it. */
const PERIOD = 2 ** 20;
const pattern = Buffer.alloc(2 * PERIOD);
for (let i = 0; i < PERIOD; i++) pattern.writeUInt16LE(0x3c00 + (((i * 2_654_435_761) % 2 ** 32) >>> 25), 2 * i);

function bytesAt(from, to) {
  if (from < start.byteLength) return start.subarray(from, Math.min(to, start.byteLength));
  const at = (from - start.byteLength) % pattern.byteLength;
  return pattern.subarray(at, Math.min(pattern.byteLength, at + to - from));
}

const server = createServer((request, response) => {
  if (request.url === '/config.json') return response.end(JSON.stringify(config));
  if (request.url !== '/model.safetensors') return response.writeHead(404).end();
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
  let at = Number(first);
  const end = Math.min(Number(last) + 1, size);
  const headers = { etag: '"1"', 'content-range': `bytes ${at}-${end - 1}/${size}`, 'content-length': end - at };
  response.writeHead(206, headers);
  const send = () => {
    while (at < end) {
      const part = bytesAt(at, end);
      at += part.byteLength;
      if (!response.write(part)) return response.once('drain', send);
    }
    return response.end();
  };
  return send();
});
server.listen(0, '127.0.0.1', () => process.send?.({ port: server.address().port, size }));
process.on('disconnect', () => process.exit());
