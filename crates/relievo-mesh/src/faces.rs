//! The triangles of an object.

use std::sync::Arc;

use relievo_tensor::{Error, Result};

/// Triangles, as indices into an object's vertices. Clones share the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faces {
    list: Arc<[[u32; 3]]>,
    /// One more than the greatest index.
    vertices: usize,
}

impl Faces {
    /// Triangles of the given indices; any list will do, an empty one too.
    pub fn new(list: impl Into<Arc<[[u32; 3]]>>) -> Self {
        let list = list.into();
        let greatest = list.as_flattened().iter().max();
        Self { vertices: greatest.map_or(0, |index| *index as usize + 1), list }
    }

    /// The number of triangles.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The indices of each triangle.
    pub fn as_slice(&self) -> &[[u32; 3]] {
        &self.list
    }

    /// The list itself, which clones share.
    pub(crate) fn shared(&self) -> &Arc<[[u32; 3]]> {
        &self.list
    }

    /// Checks that there are as many vertices as the indices need.
    pub(crate) fn check(&self, operation: &'static str, vertices: usize) -> Result<()> {
        if self.vertices > vertices {
            let detail =
                format!("a face has vertex {}, but there are {vertices} vertices", self.vertices - 1);
            return Err(Error::shape(operation, detail));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_beyond_the_vertices_are_refused() {
        let faces = Faces::new(vec![[0, 1, 2], [2, 1, 4]]);
        assert!(faces.check("test", 5).is_ok());
        let error = faces.check("test", 4).unwrap_err().to_string();
        assert_eq!(error, "test: a face has vertex 4, but there are 4 vertices");
        assert!(Faces::new(vec![]).check("test", 0).is_ok());
    }
}
