//! Optimiser steps, schedule, checkpoints, metrics, logs.
