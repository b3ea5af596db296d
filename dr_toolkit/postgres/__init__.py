"""PostgreSQL: server facts, tools, the archive format of pg_dump, dump, restore, scratch servers."""
