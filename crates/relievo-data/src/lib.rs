//! Pictures in: the source trait, folders, tar shards, background decoding, augmentation.
