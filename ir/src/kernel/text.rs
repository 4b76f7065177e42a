//! The text form of kernels, for people: operands, axes, and one instruction a line.
//!
//! Invariant: shows everything that a kernel says; equal texts mean equal kernels.

use super::{
    Access, Axis, AxisKind, Combine, Kernel, Role, Scalar, ScalarOp, ScalarProgram, Stage,
};
use std::fmt::{self, Display, Formatter};

impl Display for Kernel {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let params: Vec<String> = self
            .symbols
            .iter()
            .map(|(symbol, bounds)| match bounds.max {
                Some(max) => format!("{symbol}: {}..={max}", bounds.min),
                None => format!("{symbol}: {}..", bounds.min),
            })
            .collect();
        writeln!(f, "kernel {}({}) {{", self.name, params.join(", "))?;
        for operand in &self.operands {
            let role = match operand.role {
                Role::Input => "input",
                Role::Output => "output",
                Role::Temporary => "temporary",
            };
            let shape: Vec<String> = operand.shape.iter().map(ToString::to_string).collect();
            writeln!(f, "  {role} {}: {}[{}]", operand.name, operand.dtype, shape.join(", "))?;
        }
        for (number, axis) in self.outer.iter().enumerate() {
            writeln!(f, "  a{number} = {axis}")?;
        }
        for stage in &self.stages {
            self.stage(stage, f)?;
        }
        f.write_str("}")
    }
}

impl Kernel {
    fn stage(&self, stage: &Stage, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "  stage")?;
        for (number, axis) in stage.axes.iter().enumerate() {
            writeln!(f, "    a{} = {axis}", self.outer.len() + number)?;
        }
        self.program(&stage.body, f)?;
        if !stage.combine.is_empty() {
            let combined: Vec<String> = stage
                .combine
                .iter()
                .zip(&stage.body.results)
                .map(|(how, id)| format!("{} s{}", combiner(*how), id.0))
                .collect();
            writeln!(f, "    combine {}", combined.join(", "))?;
        }
        writeln!(f, "    finish")?;
        self.program(&stage.finish, f)?;
        for (write, id) in stage.writes.iter().zip(&stage.finish.results) {
            write!(f, "    {} = s{}", self.place(&write.access), id.0)?;
            if let Some(condition) = write.only_if {
                write!(f, " if s{}", condition.0)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn program(&self, program: &ScalarProgram, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, (op, dtype)) in program.code.iter().enumerate() {
            write!(f, "    s{number}: {dtype} = ")?;
            match op {
                ScalarOp::Constant(scalar) => write!(f, "{scalar}")?,
                ScalarOp::Dim(dim) => write!(f, "size {dim}")?,
                ScalarOp::Index(index) => write!(f, "index {index}")?,
                ScalarOp::Read { access, outside } => {
                    f.write_str(&self.place(access))?;
                    if let Some(outside) = outside {
                        write!(f, " else {outside}")?;
                    }
                }
                ScalarOp::Reduced(result) => write!(f, "combined {result}")?,
                ScalarOp::Unary(function, a) => {
                    write!(f, "{} s{}", format!("{function:?}").to_lowercase(), a.0)?;
                }
                ScalarOp::Binary(function, a, b) => {
                    let name = format!("{function:?}").to_lowercase();
                    write!(f, "{name} s{}, s{}", a.0, b.0)?;
                }
                ScalarOp::Select(c, a, b) => write!(f, "select s{}, s{}, s{}", c.0, a.0, b.0)?,
                ScalarOp::Cast(a) => write!(f, "cast s{}", a.0)?,
                ScalarOp::BitCast(a) => write!(f, "bitcast s{}", a.0)?,
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn place(&self, access: &Access) -> String {
        let index: Vec<String> = access.index.iter().map(ToString::to_string).collect();
        let operand = self.operands.get(access.operand);
        let name = operand.map_or_else(|| format!("#{}", access.operand), |o| o.name.clone());
        format!("{name}[{}]", index.join(", "))
    }
}

fn combiner(how: Combine) -> String {
    match how {
        Combine::Reduce(f) => format!("{f:?}").to_lowercase(),
        Combine::ArgMax { last } => format!("argmax{}", if last { " last" } else { "" }),
        Combine::ArgMin { last } => format!("argmin{}", if last { " last" } else { "" }),
        Combine::Follow => "follow".into(),
    }
}

/// `parallel m < 128`
impl Display for Axis {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            AxisKind::Parallel => "parallel",
            AxisKind::Reduction => "reduction",
            AxisKind::Sequential => "sequential",
        };
        write!(f, "{kind} {} < {}", self.name, self.extent)
    }
}

impl Display for Scalar {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Float(value) => write!(f, "{value:?}"),
            Scalar::Int(value) => write!(f, "{value}"),
            Scalar::Pair(low, high) => write!(f, "({low}, {high})"),
        }
    }
}
