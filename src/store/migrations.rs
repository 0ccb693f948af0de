//! The steps of the schema, embedded in the program and applied in order.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{SqlSafeStr, SqlStr};

/// Number, description and text of every step, as their files are named.
const STEPS: [(i64, &str, &str); 4] = [
    (
        1,
        "recommendations and traces",
        include_str!("../../migrations/sqlite/0001_recommendations_and_traces.sql"),
    ),
    (2, "devices", include_str!("../../migrations/sqlite/0002_devices.sql")),
    (3, "inputs of jobs", include_str!("../../migrations/sqlite/0003_inputs_of_jobs.sql")),
    (4, "models", include_str!("../../migrations/sqlite/0004_models.sql")),
];

/// What brings a database to the schema of this program.
pub(super) fn migrator() -> Migrator {
    Migrator::with_migrations(STEPS.map(step).into())
}

fn step((number, description, text): (i64, &'static str, &'static str)) -> Migration {
    let text: SqlStr = text.into_sql_str();
    Migration::new(number, description.into(), MigrationType::Simple, text, false)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_is_embedded_under_its_name() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
        let files: BTreeSet<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let embedded: BTreeSet<String> = STEPS
            .iter()
            .map(|(number, description, _)| {
                format!("{number:04}_{}.sql", description.replace(' ', "_"))
            })
            .collect();
        assert_eq!(embedded, files);
        for (number, description, text) in STEPS {
            let name = format!("{number:04}_{}.sql", description.replace(' ', "_"));
            assert_eq!(text, std::fs::read_to_string(folder.join(name)).unwrap());
        }
    }
}
