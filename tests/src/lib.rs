//! Everything meets here.

#[cfg(test)]
mod laws;
#[cfg(test)]
mod passes;
