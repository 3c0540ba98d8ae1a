//! Reading at an offset.

use std::fs::File;
use std::io::{self, Read};

/// Bytes that can be read at any offset, by several threads at once.
pub trait ReadAt {
    /// How many there are.
    ///
    /// # Errors
    /// If that cannot be found out.
    fn bytes(&self) -> io::Result<u64>;

    /// Fills `content` with the bytes from `offset` on.
    ///
    /// # Errors
    /// If there are not as many, or they cannot be read.
    fn read_at(&self, content: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    #[cfg(unix)]
    fn read_at(&self, content: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, content, offset)
    }

    /// Where there is no such call the threads take turns with the cursor.
    #[cfg(not(unix))]
    fn read_at(&self, content: &mut [u8], offset: u64) -> io::Result<()> {
        use std::io::Seek;
        static CURSOR: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _turn = CURSOR.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut file = self;
        file.seek(io::SeekFrom::Start(offset))?;
        file.read_exact(content)
    }
}

impl ReadAt for [u8] {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, content: &mut [u8], offset: u64) -> io::Result<()> {
        let begin = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = begin.saturating_add(content.len());
        let there = self.get(begin..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        content.copy_from_slice(there);
        Ok(())
    }
}

/// A reader from an offset on, to the end.
pub struct ReaderAt<'a, F: ?Sized> {
    file: &'a F,
    at: u64,
}

impl<'a, F: ReadAt + ?Sized> ReaderAt<'a, F> {
    /// The bytes of `file` from `at` on.
    pub fn new(file: &'a F, at: u64) -> Self {
        Self { file, at }
    }

    /// Where the next byte is read.
    pub fn position(&self) -> u64 {
        self.at
    }
}

impl<F: ReadAt + ?Sized> Read for ReaderAt<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.file.bytes()?.saturating_sub(self.at);
        let count = left.min(buffer.len() as u64) as usize;
        self.file.read_at(&mut buffer[..count], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
