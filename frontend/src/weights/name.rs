//! Names of tensors as rules write them: `model.layers.{l}.{param}_proj.{weight|gamma}`.

use super::path::Way;

/// What stands in the places of `{...}`, from left to right.
struct Holes<'a, 'w> {
    way: &'w Way<'a>,
    /// Lists so far: each answers to the list of the path in its place.
    n_lists: usize,
    names_param: bool,
}

/// The tensors that a name stands for on one way of its rule, those to be preferred first, `most`
/// of them at most. The number of the layer is left as `{}`.
///
/// # Errors
///
/// What is wrong with the name.
pub(super) fn names(text: &str, way: &Way<'_>, most: usize) -> Result<Vec<String>, String> {
    let mut holes = Holes { way, n_lists: 0, names_param: false };
    let mut names = vec![String::new()];
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((hole, after)) = after.split_once('}') else {
            return Err("this name has a `{` without its `}`".into());
        };
        let choices = holes.fill(hole)?;
        if most < names.len().saturating_mul(choices.len()) {
            return Err("this stands for too many names".into());
        }
        names.iter_mut().for_each(|it| it.push_str(before));
        match choices.as_slice() {
            [one] => names.iter_mut().for_each(|it| it.push_str(one)),
            _ => {
                let with =
                    |name: &String| choices.iter().map(|it| name.clone() + it).collect::<Vec<_>>();
                names = names.iter().flat_map(with).collect();
            }
        }
        rest = after;
    }
    holes.check()?;
    Ok(names.into_iter().map(|it| it + rest).collect())
}

impl<'a> Holes<'a, '_> {
    /// What may stand in one place.
    fn fill<'t>(&mut self, hole: &'t str) -> Result<Vec<&'t str>, String>
    where
        'a: 't,
    {
        if hole == "param" {
            let message = "`{param}` needs a list of parameters with a tensor for each: \
                           `layers[l].mlp.{up, down}`";
            self.names_param = true;
            return self.way.param.map(|it| vec![it]).ok_or_else(|| message.into());
        }
        if hole.contains(',') {
            return Ok(self.member(hole)?.split('|').collect());
        }
        if hole.contains('|') {
            return Ok(hole.split('|').collect());
        }
        match self.way.layer == Some(hole) {
            true => Ok(vec!["{}"]),
            false => Err(format!("`{{{hole}}}` is not what the path calls the layer")),
        }
    }

    /// The member of a list that answers to the one that is taken of the path's.
    fn member<'t>(&mut self, list: &'t str) -> Result<&'t str, String> {
        let Some(&(n_wanted, taken)) = self.way.taken.get(self.n_lists) else {
            return Err(format!("`{{{list}}}` answers to no list of the path"));
        };
        self.n_lists += 1;
        let members: Vec<&str> = list.split(',').map(str::trim).collect();
        if members.len() != n_wanted {
            let n_found = members.len();
            return Err(format!(
                "`{{{list}}}` has {n_found} members, and its list of the path {n_wanted}"
            ));
        }
        Ok(members[taken])
    }

    /// Parameters of one list differ in their tensors, and a name has a list for each of the path
    /// or for none.
    fn check(&self) -> Result<(), String> {
        let (n_found, n_wanted) = (self.n_lists, self.way.taken.len());
        if n_found == 0 && self.way.param.is_some() && !self.names_param {
            let message = "several parameters have a tensor each, with `{param}` or `{a, b}` in the \
                           name, or parts of one: `split(\"name\")`";
            return Err(message.into());
        }
        match n_found == 0 || n_found + usize::from(self.names_param) >= n_wanted {
            true => Ok(()),
            false => Err(format!("the path has {n_wanted} lists, and this name {n_found}")),
        }
    }
}
