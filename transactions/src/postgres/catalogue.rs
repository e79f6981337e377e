//! What the database says of a table: columns, types, rights.

use sqlx::{PgConnection, Row as _};

use super::{Table, one_line};
use crate::catalogue::{ColumnType, FoundColumn, Layout, resolve};
use crate::definition::ModelDefinition;
use crate::error::{CatalogueProblem, SourceError};
use crate::nearest::nearest;

impl Table {
    /// Compares the table with the settings.
    pub async fn check(&self, definition: &ModelDefinition) -> Result<Layout, SourceError> {
        let mut connection = self.connection().await?;
        let described = async {
            let described = self.describe(&mut connection).await;
            described.map_err(|error| SourceError::Unreachable {
                source_name: self.source_name(),
                cause: one_line(&error),
            })
        };
        let found = self.bounded(described).await?;
        found
            .and_then(|columns| self.fit(definition, columns))
            .map_err(|problems| SourceError::Catalogue {
                source_name: self.source_name(),
                problems,
            })
    }

    fn fit(
        &self,
        definition: &ModelDefinition,
        described: Described,
    ) -> Result<Layout, Vec<CatalogueProblem>> {
        let layout = resolve(definition, &described.columns)?;
        let used = [
            Some(&layout.time),
            Some(&layout.label),
            layout.label_time.as_ref(),
            layout.score.as_ref(),
            layout.id.as_ref(),
        ];
        let used = used
            .into_iter()
            .flatten()
            .chain(layout.features.iter().map(|(_, column)| column));
        let mut refused: Vec<&str> = used
            .map(|column| column.name.as_str())
            .filter(|name| described.refused.iter().any(|no| no == name))
            .collect();
        refused.sort_unstable();
        refused.dedup();
        if refused.is_empty() {
            return Ok(layout);
        }
        let what = if described.refused.len() == described.columns.len() {
            format!("`{}`", self.source_name())
        } else {
            format!(
                "the columns {} of `{}`",
                refused
                    .iter()
                    .map(|name| format!("`{name}`"))
                    .collect::<Vec<_>>()
                    .join(", "),
                self.source_name()
            )
        };
        Err(vec![CatalogueProblem::NoPermission {
            what,
            role: described.role,
        }])
    }

    async fn describe(
        &self,
        connection: &mut PgConnection,
    ) -> sqlx::Result<Result<Described, Vec<CatalogueProblem>>> {
        let mut tx = self.begin(connection).await?;
        let role: String = sqlx::query_scalar("select current_user::text")
            .fetch_one(&mut *tx)
            .await?;
        let usable: Option<bool> = sqlx::query_scalar(
            "select has_schema_privilege(oid, 'usage') from pg_namespace where nspname = $1",
        )
        .bind(&self.schema)
        .fetch_optional(&mut *tx)
        .await?;
        if usable == Some(false) {
            let what = format!("schema `{}` (grant usage)", self.schema);
            return Ok(Err(vec![CatalogueProblem::NoPermission { what, role }]));
        }
        // A domain has the type it is made of.
        let rows = sqlx::query(
            "select a.attname::text as name, format_type(a.atttypid, a.atttypmod) as shown, b.typname::text as base, \
             b.typtype::text as class, has_column_privilege(c.oid, a.attnum, 'select') as readable \
             from pg_attribute a \
             join pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'v', 'm', 'p', 'f') \
             join pg_namespace n on n.oid = c.relnamespace \
             join pg_type t on t.oid = a.atttypid \
             join pg_type b on b.oid = case when t.typtype = 'd' then t.typbasetype else t.oid end \
             where n.nspname = $1 and c.relname = $2 and a.attnum > 0 and not a.attisdropped \
             order by a.attnum",
        )
        .bind(&self.schema)
        .bind(&self.name)
        .fetch_all(&mut *tx)
        .await?;
        if rows.is_empty() {
            let tables: Vec<String> = sqlx::query_scalar(
                "select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                 where c.relkind in ('r', 'v', 'm', 'p', 'f') and n.nspname !~ '^(pg_|information_schema$)' \
                 order by 1 limit 10000",
            )
            .fetch_all(&mut *tx)
            .await?;
            let table = self.source_name();
            let nearest = nearest(&table, tables.iter().map(String::as_str));
            return Ok(Err(vec![CatalogueProblem::MissingTable { table, nearest }]));
        }
        let mut described = Described {
            role,
            columns: Vec::new(),
            refused: Vec::new(),
        };
        for row in rows {
            let name: String = row.try_get("name")?;
            if !row.try_get::<bool, _>("readable")? {
                described.refused.push(name.clone());
            }
            let (base, class): (String, String) = (row.try_get("base")?, row.try_get("class")?);
            described.columns.push(FoundColumn {
                name,
                kind: kind_of(&base, &class),
                type_name: row.try_get("shown")?,
            });
        }
        Ok(Ok(described))
    }
}

/// What the catalogue says of a table.
struct Described {
    role: String,
    columns: Vec<FoundColumn>,
    /// Columns that the role may not read.
    refused: Vec<String>,
}

fn kind_of(base: &str, class: &str) -> ColumnType {
    match base {
        "int2" | "int4" | "int8" => ColumnType::Integer,
        "float4" | "float8" | "numeric" => ColumnType::Number,
        "bool" => ColumnType::Boolean,
        "text" | "varchar" | "bpchar" | "name" | "citext" | "uuid" => ColumnType::Text,
        "timestamptz" => ColumnType::InstantWithZone,
        "timestamp" => ColumnType::InstantWithoutZone,
        _ if class == "e" => ColumnType::Text,
        _ => ColumnType::Other,
    }
}
