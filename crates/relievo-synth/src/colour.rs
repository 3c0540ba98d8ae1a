//! Colours, and how one is made from others.

/// Red, green, blue: display values in [0, 1].
pub(crate) type Colour = [f32; 3];

/// Colour at `t` in [0, 1] along evenly spaced ones.
pub(crate) fn along(colours: &[Colour], t: f32) -> Colour {
    let place = t * (colours.len() - 1) as f32;
    let first = (place as usize).min(colours.len() - 2);
    mix(colours[first], colours[first + 1], place - first as f32)
}

/// From one colour to the other: the first where `weight` is 0, the second where it is 1.
pub(crate) fn mix(from: Colour, to: Colour, weight: f32) -> Colour {
    std::array::from_fn(|k| from[k] + (to[k] - from[k]) * weight)
}

/// Takes shares of each channel away, in full where `amount` is 1.
pub(crate) fn darken(colour: &mut Colour, shares: Colour, amount: f32) {
    for (channel, share) in colour.iter_mut().zip(shares) {
        *channel *= 1.0 - (share * amount).clamp(0.0, 1.0);
    }
}
