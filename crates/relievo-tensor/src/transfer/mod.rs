//! Tensors on their way between main memory and a GPU, through pinned memory: [`UploadQueue`] sends batches while the GPU
//! computes, [`Download`] fetches many results with one wait.

mod download;
mod upload;

pub use download::Download;
pub use upload::UploadQueue;
