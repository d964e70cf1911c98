//! The application: each answer reads the schema that it finds.

use std::process::ExitCode;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio_postgres::Client;

use crate::{Failure, database};

/// Serves until SIGTERM. It refuses to start on a schema that is older than itself, as real applications fail on one.
pub(crate) async fn serve() -> Result<ExitCode, Failure> {
    let release: i64 = std::env::var("RELEASE").map_err(|_| "RELEASE is not set")?.parse()?;
    let database = Arc::new(database().await?);
    let schema = schema(&database).await?;
    if schema < release {
        return Err(format!("release {release} needs schema {release}, but the database has {schema}").into());
    }
    let router = Router::new().route("/", get(orders)).with_state((release, database));
    let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await?;
    let mut end = signal(SignalKind::terminate())?;
    axum::serve(listener, router).with_graceful_shutdown(async move { while end.recv().await.is_none() {} }).await?;
    Ok(ExitCode::SUCCESS)
}

async fn schema(database: &Client) -> Result<i64, tokio_postgres::Error> {
    Ok(database.query_one("SELECT max(version_id) FROM goose_db_version WHERE is_applied", &[]).await?.get(0))
}

async fn orders(State((release, database)): State<(i64, Arc<Client>)>) -> (StatusCode, Json<Value>) {
    let answer = async {
        let schema = schema(&database).await?;
        let orders: i64 = database.query_one("SELECT count(*) FROM orders", &[]).await?.get(0);
        Ok::<_, tokio_postgres::Error>(json!({ "release": release, "schema": schema, "orders": orders }))
    };
    match answer.await {
        Ok(answer) => (StatusCode::OK, Json(answer)),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "error": error.to_string() }))),
    }
}
