//! Everything meets here.

#[cfg(test)]
mod laws;
