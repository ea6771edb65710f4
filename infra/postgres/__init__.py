"""What a PostgreSQL cluster needs before migrations can run: database, schemas and roles."""
