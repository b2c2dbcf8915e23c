// Values of a KV cache: f32; f16 packed two in a word (lower half first); or q8, bytes packed four in a word (lowest
// first), of which 32 share an f16 scale in a plane behind them. A reader multiplies q8 values with their scale itself.

// Four values: 16 bytes of f32, 8 bytes of f16, 4 bytes of q8.
@if(cache_f32) alias CacheQuad = vec4<f32>;
@if(cache_f16) alias CacheQuad = vec2<u32>;
@if(cache_q8) alias CacheQuad = u32;

@if(cache_f32)
fn quadValues(word: CacheQuad) -> vec4<f32> { return word; }
@if(cache_f16)
fn quadValues(word: CacheQuad) -> vec4<f32> { return vec4<f32>(unpack2x16float(word.x), unpack2x16float(word.y)); }
@if(cache_q8)
fn quadValues(word: CacheQuad) -> vec4<f32> { return signedBytes(word); }

// Four values of f32, eight of f16 or q8: one or two vectors.
@if(cache_f32) alias CacheWord = vec4<f32>;
@if(cache_f16) alias CacheWord = vec4<u32>;
@if(cache_q8) alias CacheWord = vec2<u32>;
@if(cache_f32) const WORD_VECTORS: u32 = 1u;
@else const WORD_VECTORS: u32 = 2u;

// The first four values of a word, and the other four, which f32 words lack.
@if(cache_f32)
fn wordLow(word: CacheWord) -> vec4<f32> { return word; }
@if(cache_f16)
fn wordLow(word: CacheWord) -> vec4<f32> { return vec4<f32>(unpack2x16float(word.x), unpack2x16float(word.y)); }
@if(cache_q8)
fn wordLow(word: CacheWord) -> vec4<f32> { return signedBytes(word.x); }

@if(cache_f32)
fn wordHigh(word: CacheWord) -> vec4<f32> { return vec4<f32>(); }
@if(cache_f16)
fn wordHigh(word: CacheWord) -> vec4<f32> { return vec4<f32>(unpack2x16float(word.z), unpack2x16float(word.w)); }
@if(cache_q8)
fn wordHigh(word: CacheWord) -> vec4<f32> { return signedBytes(word.y); }

// Two neighbouring values as they are stored; f16 stays finite.
@if(cache_f32) alias CachePair = vec2<f32>;
@if(cache_f16) alias CachePair = u32;

@if(cache_f32)
fn storedPair(values: vec2<f32>) -> CachePair { return values; }
@if(cache_f16)
fn storedPair(values: vec2<f32>) -> CachePair {
  return pack2x16float(clamp(values, vec2<f32>(-65504.0), vec2<f32>(65504.0)));
}

// The core language has no word for it.
@if(cache_q8)
fn signedBytes(word: u32) -> vec4<f32> {
  return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

// The scale of a block of 32 values, from the word that it shares with its neighbour.
@if(cache_q8)
fn blockScale(word: u32, block: u32) -> f32 {
  let both = unpack2x16float(word);
  return select(both.x, both.y, (block & 1u) == 1u);
}
