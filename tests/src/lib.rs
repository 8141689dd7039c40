//! Everything meets here.

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod loops;
#[cfg(test)]
mod models;
#[cfg(test)]
mod passes;
#[cfg(test)]
mod snapshots;
#[cfg(test)]
mod tidy;
