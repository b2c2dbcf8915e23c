// Rotary position embedding of one value of a head: value e and its partner turn by the angle of their pair.

// Where value `e` of a head finds its partner, the angle's index, and the sign of the partner's sine.
struct Turn {
  partner: u32,
  pair: u32,
  sign: f32,
}

// For e < rotaryDim. Half-split: pair i is (i, i + rotaryDim / 2); interleaved: (2 i, 2 i + 1).
fn rotaryTurn(e: u32, rotaryDim: u32, interleaved: bool) -> Turn {
  if (interleaved) {
    return Turn(e ^ 1u, e / 2u, select(-1.0, 1.0, (e & 1u) == 1u));
  }
  let pairs = rotaryDim / 2u;
  let second = e >= pairs;
  return Turn(select(e + pairs, e - pairs, second), select(e, e - pairs, second), select(-1.0, 1.0, second));
}
