//! Layers, initialisation, the five networks, VGG16 features.
