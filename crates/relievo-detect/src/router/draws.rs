//! Random choices, one after the other.

use relievo_tensor::Random;

/// The numbers of a stream in their order.
pub(super) struct Draws {
    stream: Random,
    next: u64,
}

impl Draws {
    pub fn new(stream: Random) -> Self {
        Self { stream, next: 0 }
    }

    /// Uniform in \[0,1).
    pub fn uniform(&mut self) -> f32 {
        self.next += 1;
        self.stream.uniform(self.next - 1)
    }

    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.uniform()
    }

    /// Between two numbers, each factor alike often.
    pub fn factor(&mut self, [low, high]: [f32; 2]) -> f32 {
        low * (high / low).powf(self.uniform())
    }

    pub fn chance(&mut self, probability: f32) -> bool {
        self.uniform() < probability
    }

    /// Below `count`, which is not 0.
    pub fn below(&mut self, count: usize) -> usize {
        ((self.uniform() * count as f32) as usize).min(count - 1)
    }

    /// Mean 0, deviation 1, without a tail: four uniform numbers' sum.
    pub fn bell(&mut self) -> f32 {
        let bits = self.stream.bits(self.next);
        self.next += 1;
        let sum: u32 = (0..4).map(|at| (bits >> (16 * at) & 0xffff) as u32).sum();
        (sum as f32 / 65536.0 - 2.0) * 1.732_050_8
    }
}
