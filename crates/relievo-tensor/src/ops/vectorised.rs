//! Inner loops compiled once per instruction set, the best one chosen at run time.
//!
//! The loops are plain Rust that the compiler vectorises, without fused multiply-adds: every version does the same
//! roundings in the same order, so results are the same on every machine.

/// Defines functions whose bodies are compiled for AVX-512, for AVX2 and for the baseline. What a body calls must
/// be `#[inline(always)]` to be compiled along with it.
#[doc(hidden)]
#[macro_export]
macro_rules! vectorised {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident $(<$generic:ident: $bound:path>)? (
        $($argument:ident: $type:ty),* $(,)?
    ) $(-> $result:ty)? $body:block)+) => { $(
        $(#[$meta])*
        $vis fn $name $(<$generic: $bound>)? ($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            fn body $(<$generic: $bound>)? ($($argument: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512 $(<$generic: $bound>)? ($($argument: $type),*) $(-> $result)? {
                    body $(::<$generic>)? ($($argument),*)
                }
                #[target_feature(enable = "avx2")]
                fn avx2 $(<$generic: $bound>)? ($($argument: $type),*) $(-> $result)? {
                    body $(::<$generic>)? ($($argument),*)
                }
                if std::arch::is_x86_feature_detected!("avx512f")
                    && std::arch::is_x86_feature_detected!("avx512bw")
                    && std::arch::is_x86_feature_detected!("avx512dq")
                    && std::arch::is_x86_feature_detected!("avx512vl")
                {
                    // SAFETY: the processor has what the function was compiled for.
                    return unsafe { avx512 $(::<$generic>)? ($($argument),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: as above.
                    return unsafe { avx2 $(::<$generic>)? ($($argument),*) };
                }
            }
            body $(::<$generic>)? ($($argument),*)
        }
    )+ };
}

pub(crate) use vectorised;
