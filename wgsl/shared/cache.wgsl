// Values of a KV cache, stored as f32 or as f16 packed two in a word (lower half first).

// Four values: 16 bytes of f32, 8 bytes of f16.
@if(cache_f16) alias CacheQuad = vec2<u32>;
@else alias CacheQuad = vec4<f32>;

@if(cache_f16)
fn quadValues(word: CacheQuad) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(word.x), unpack2x16float(word.y));
}
@else
fn quadValues(word: CacheQuad) -> vec4<f32> {
  return word;
}

// 16 bytes: four values of f32 or eight of f16, as one or two vectors.
@if(cache_f16) alias CacheWord = vec4<u32>;
@else alias CacheWord = vec4<f32>;
@if(cache_f16) const WORD_VECTORS: u32 = 2u;
@else const WORD_VECTORS: u32 = 1u;

// The first four values of a word, and the other four, which f32 words lack.
@if(cache_f16)
fn wordLow(word: CacheWord) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(word.x), unpack2x16float(word.y));
}
@else
fn wordLow(word: CacheWord) -> vec4<f32> {
  return word;
}

@if(cache_f16)
fn wordHigh(word: CacheWord) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(word.z), unpack2x16float(word.w));
}
@else
fn wordHigh(word: CacheWord) -> vec4<f32> {
  return vec4<f32>();
}

// Two neighbouring values as they are stored; f16 stays finite.
@if(cache_f16) alias CachePair = u32;
@else alias CachePair = vec2<f32>;

@if(cache_f16)
fn storedPair(values: vec2<f32>) -> CachePair {
  return pack2x16float(clamp(values, vec2<f32>(-65504.0), vec2<f32>(65504.0)));
}
@else
fn storedPair(values: vec2<f32>) -> CachePair {
  return values;
}
