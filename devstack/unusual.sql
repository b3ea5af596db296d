-- What a dump and a restore must get right although few databases have it. Needs a superuser. Deterministic.
-- PostgreSQL 13 and later; "-- from N" or "-- before N" up to "-- end" is for such versions only (devstack/data.py reads that).

DO $$
BEGIN
    CREATE ROLE "Odd ""Owner"" /ö" NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$;

-- Names ---------------------------------------------------------------------------------------------------------------

CREATE SCHEMA "My Schema";
CREATE SCHEMA "sch/ema.%d ""x"" ü";
ALTER SCHEMA "sch/ema.%d ""x"" ü" OWNER TO "Odd ""Owner"" /ö";

CREATE TABLE "My Schema"."Ta""ble" (
    "Ünï cödé" text, "a/b" int, "100%" numeric, "back\slash" text, "it's" text, "select" boolean, "日本" text, " " int,
    "new
line" text
);
INSERT INTO "My Schema"."Ta""ble" SELECT 'ä' || n, n, n / 7.0, repeat('\', n % 5), '''', n % 2 = 0, '語', n, E'\n' FROM generate_series(1, 50) AS n;
CREATE TABLE "My Schema"."../../etc/passwd" (n int);
INSERT INTO "My Schema"."../../etc/passwd" VALUES (1);
CREATE TABLE "My Schema"."new
line" (n int);
INSERT INTO "My Schema"."new
line" VALUES (1), (2);
CREATE TABLE "My Schema"."sixty-three bytes, as long as a name can be: ααααααααα" (n int PRIMARY KEY);
CREATE TABLE "sch/ema.%d ""x"" ü"."table" ("table" int PRIMARY KEY);
ALTER TABLE "sch/ema.%d ""x"" ü"."table" OWNER TO "Odd ""Owner"" /ö";
INSERT INTO "sch/ema.%d ""x"" ü"."table" SELECT generate_series(1, 10);
CREATE INDEX "in dex/%" ON "sch/ema.%d ""x"" ü"."table" (("table" % 3)) WHERE "table" > 2;
COMMENT ON TABLE "sch/ema.%d ""x"" ü"."table" IS E'quote '' backslash \\ newline \n dollar $$ end -- not a comment';

-- Tables --------------------------------------------------------------------------------------------------------------

CREATE TABLE public.empty (id int PRIMARY KEY, note text);
CREATE TABLE public.no_columns ();
CREATE TABLE public.no_columns_with_rows ();
INSERT INTO public.no_columns_with_rows SELECT FROM generate_series(1, 5);
CREATE TABLE public.one_large (id int, value text, raw bytea);
ALTER TABLE public.one_large ALTER value SET STORAGE EXTERNAL;
INSERT INTO public.one_large
SELECT 1, string_agg(md5(n::text), '' ORDER BY n), decode(string_agg(md5('raw' || n), '' ORDER BY n), 'hex') FROM generate_series(1, 163840) AS n;
CREATE TABLE public.texts (id int, value text);
INSERT INTO public.texts VALUES
    (1, NULL), (2, ''), (3, '\N'), (4, '\.'), (5, E'\\.\n\\.'), (6, E'\t'), (7, E'a\nb\r\nc\r'), (8, E'\b\f\v\x01\x7f'), (9, '\'), (10, '\\N'),
    (11, 'COPY public.texts FROM stdin;'), (12, E'é'), (13, E'e\u0301'), (14, '🦆'), (15, '  spaces  '), (16, '''"$$'), (17, E'\\x00'), (18, 'NULL');
CREATE TABLE public.edges (f float8, g real, n numeric, d date, t timestamptz, i interval, b bytea, m text[], j jsonb, js json, u uuid, bits varbit, ch char(5));
INSERT INTO public.edges VALUES
    ('NaN', '-Infinity', 'NaN', 'infinity', '-infinity', '1 mon -1 day 00:00:00.000001', '\x', '{}', 'null', 'null', NULL, B'', ''),
    (5e-324, 3.4028235e38, 1e-300, '4713-01-01 BC', '2026-03-29 01:59:59.999999+00', '178000000 years', '\x00ff5c0a0d', '{{a,NULL},{"NULL","\""}}',
     '{"a": [1, 2.50, {"b": null}]}', E'{"a" : 1,\n "a" : 2}', '00000000-0000-0000-0000-000000000000', B'10101', 'ab'),
    (0.1 + 0.2, 0.1, repeat('9', 200)::numeric, '5874897-12-31', '294276-12-31 23:59:59+00', '-00:00:01', decode(repeat('5c', 300), 'hex'),
     '[5:6]={x,y}', '"\u2028"', '{}', 'ffffffff-ffff-ffff-ffff-ffffffffffff', B'0', 'abcde');
CREATE TABLE public.dropped_column (a int, gone text, b int);
ALTER TABLE public.dropped_column DROP gone;
INSERT INTO public.dropped_column SELECT n, -n FROM generate_series(1, 20) AS n;
CREATE UNLOGGED TABLE public.unlogged (n int);
INSERT INTO public.unlogged SELECT generate_series(1, 100);
DO $$
BEGIN
    EXECUTE (SELECT 'CREATE TABLE public.wide (' || string_agg('c' || n || ' int DEFAULT ' || n, ', ' ORDER BY n) || ')' FROM generate_series(1, 400) AS n);
END
$$;
INSERT INTO public.wide DEFAULT VALUES;

-- Types, constraints, generated columns -------------------------------------------------------------------------------

CREATE TYPE public."Mood" AS ENUM ('sad', 'it''s ok', 'ha ppy', '');
CREATE TYPE public.pair AS (a int, "B b" text);
CREATE TYPE public.span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE DOMAIN public.percent AS numeric(5, 2) DEFAULT 0 NOT NULL CHECK (VALUE BETWEEN 0 AND 100);
CREATE TABLE public.typed (
    id int GENERATED ALWAYS AS IDENTITY (START 10 INCREMENT -3 MINVALUE -1000 MAXVALUE 10 CYCLE) PRIMARY KEY,
    mood public."Mood", pair public.pair, pairs public.pair[], span public.span, days daterange, share public.percent,
    twice int GENERATED ALWAYS AS (coalesce((pair).a, 0) * 2) STORED,
    CONSTRAINT "no overlap" EXCLUDE USING gist (span WITH &&) DEFERRABLE INITIALLY DEFERRED
);
INSERT INTO public.typed (mood, pair, pairs, span, days, share) VALUES
    ('sad', (1, 'a,"b"(c)\'), ARRAY[(1, NULL)::public.pair, NULL, (NULL, '')::public.pair], '[1,2)', 'empty', 12.5),
    ('', NULL, '{}', '(,0)', '[2026-01-01,)', 100), ('it''s ok', (NULL, NULL), NULL, '(7.5,]', NULL, 0);
-- from 14
CREATE TABLE public.multiranges (many int4multirange);
INSERT INTO public.multiranges VALUES ('{[1,2),[5,9)}'), ('{}'), (NULL);
-- end
CREATE TABLE public.first_of_two (id int PRIMARY KEY, other int);
CREATE TABLE public.second_of_two (id int PRIMARY KEY, other int REFERENCES public.first_of_two);
ALTER TABLE public.first_of_two ADD CONSTRAINT circle FOREIGN KEY (other) REFERENCES public.second_of_two DEFERRABLE;
INSERT INTO public.first_of_two VALUES (1, NULL);
INSERT INTO public.second_of_two VALUES (1, 1);
UPDATE public.first_of_two SET other = 1;
ALTER TABLE public.texts ADD CONSTRAINT not_checked CHECK (id < 10) NOT VALID;
CREATE TABLE public.parent (a int, b text);
CREATE TABLE public.child (c date) INHERITS (public.parent);
INSERT INTO public.parent VALUES (1, 'parent');
INSERT INTO public.child VALUES (2, 'child', '2026-01-01');
CREATE TABLE public.of_type OF public.pair (PRIMARY KEY (a));
INSERT INTO public.of_type VALUES (1, 'x');
CREATE TABLE public.parts (region text, n int) PARTITION BY LIST (region);
CREATE TABLE public.parts_eu PARTITION OF public.parts FOR VALUES IN ('de', 'fr') PARTITION BY HASH (n);
CREATE TABLE public.parts_eu_0 PARTITION OF public.parts_eu FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE public.parts_eu_1 (n int, region text);
ALTER TABLE public.parts_eu ATTACH PARTITION public.parts_eu_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE public.parts_rest PARTITION OF public.parts DEFAULT;
INSERT INTO public.parts SELECT (ARRAY['de', 'fr', 'jp', NULL])[1 + n % 4], n FROM generate_series(1, 100) AS n;

CREATE TABLE public.every_type (
    small smallint, big bigint, cash money, flag boolean, "char" "char", var varchar(10), nm name, t time, tz timetz, ts timestamp, net inet, range cidr,
    mac macaddr, mac8 macaddr8, place point, seg lseg, ln line, area box, way path, shape polygon, round circle, doc tsvector, search tsquery,
    one bit(3), o oid, rel regclass, lsn pg_lsn, snap pg_snapshot, path jsonpath, i4 int4range, i8 int8range, nr numrange, tr tsrange, ttr tstzrange,
    ints int[], deep int[][], dates date[], raws bytea[], docs jsonb[], nets inet[]
);
INSERT INTO public.every_type VALUES
    (-32768, -9223372036854775808, -92233720368547758.08, true, 'c', 'ten chars!', 'a name', '23:59:59.999999', '24:00:00-15:59', '-infinity',
     '::ffff:10.0.0.1/96', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', '(1,-2)', '[(0,0),(1,1)]', '{1,-1,0}', '(1,1),(0,0)',
     '[(0,0),(1,1),(2,0)]', '((0,0),(1,1),(2,0))', '<(0,0),1.5>', 'fat:2A & cat', 'fat & !rat:ab | (x <-> y)', B'101', 4294967295, 'pg_class',
     'FFFFFFFF/FFFFFFFF', '10:20:10,14,15', '$.a[*] ? (@ > 1)', '[1,10)', '(,)', '[0.1,0.2]', 'empty', '["2026-01-01 00:00:00+00",infinity]',
     '{1,NULL,3}', '{{1,2},{3,4}}', '{2026-01-01,-infinity}', '{"\\x00","\\x5c5c"}', '{"{\"a\": \"\\\"\"}",NULL}', '{10.0.0.1,::1}');
INSERT INTO public.every_type DEFAULT VALUES;
CREATE TABLE public.identity_too (id bigint GENERATED BY DEFAULT AS IDENTITY (START 100), word text COLLATE "C" GENERATED ALWAYS AS ('x' || 'y') STORED);
INSERT INTO public.identity_too VALUES (5), (DEFAULT), (DEFAULT);
CREATE TABLE public.self_reference (
    id int PRIMARY KEY, above int CONSTRAINT "up/ward" REFERENCES public.self_reference ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED
);
INSERT INTO public.self_reference VALUES (1, 3), (2, 1), (3, 2);
CREATE COLLATION public."Sorted ""so""" (PROVIDER = libc, LOCALE = 'C');
CREATE TABLE public.collated (word text COLLATE public."Sorted ""so""", UNIQUE (word));
INSERT INTO public.collated VALUES ('b'), ('B'), ('ä'), ('a');
CREATE STATISTICS public."sta tistics" (dependencies) ON a, b FROM public.parent;
DO $$
DECLARE extension text;
BEGIN
    -- Not every package of PostgreSQL has them.
    FOR extension IN SELECT name FROM pg_available_extensions WHERE name IN ('citext', 'hstore', 'pg_trgm') ORDER BY name LOOP
        EXECUTE format('CREATE EXTENSION %I', extension);
    END LOOP;
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'hstore') THEN
        EXECUTE $ddl$ CREATE TABLE public.of_extensions (h public.hstore, c public.citext UNIQUE, w text) $ddl$;
        EXECUTE $ddl$ INSERT INTO public.of_extensions VALUES ('a=>1, "b c"=>NULL', 'CaSe', 'word') $ddl$;
        EXECUTE $ddl$ CREATE INDEX by_trigrams ON public.of_extensions USING gin (w public.gin_trgm_ops) $ddl$;
    END IF;
END
$$;

-- Sequences -----------------------------------------------------------------------------------------------------------

CREATE SEQUENCE public.odd AS smallint INCREMENT -13 START 500 MINVALUE -32000 MAXVALUE 500 CACHE 5 CYCLE;
SELECT nextval('public.odd'), nextval('public.odd'), setval('public.odd', 123, false);
CREATE SEQUENCE public."never used / Sequence" START 9000000000000000000;

-- Views, rules, functions, triggers -----------------------------------------------------------------------------------

CREATE VIEW public.view_with_rule AS SELECT id, note FROM public.empty;
CREATE RULE "ru le" AS ON INSERT TO public.view_with_rule DO INSTEAD NOTHING;
CREATE MATERIALIZED VIEW public.not_filled AS SELECT 1 / 0 AS never WITH NO DATA;
CREATE MATERIALIZED VIEW public.filled AS SELECT count(*) AS n FROM public.texts;
CREATE FUNCTION public.odd_body(a int, VARIADIC rest text[]) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS
$body$
BEGIN
    RETURN $$quoted \ 'twice'$$ || a || '; -- ' || array_length(rest, 1);
END
$body$;
-- from 14
CREATE PROCEDURE public.a_procedure() LANGUAGE sql BEGIN ATOMIC; DELETE FROM public.empty WHERE id < 0; END;
-- end
CREATE AGGREGATE public.product(float8) (SFUNC = float8mul, STYPE = float8, INITCOND = '1');
CREATE OPERATOR public.<%%> (LEFTARG = int, RIGHTARG = int, FUNCTION = int4mul);
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'never'; END $$;
CREATE TRIGGER disabled BEFORE INSERT ON public.empty EXECUTE FUNCTION public.refuse();
ALTER TABLE public.empty DISABLE TRIGGER disabled;
CREATE TABLE public.stamped (id int, note text);
INSERT INTO public.stamped SELECT n, 'before the trigger' FROM generate_series(1, 3) AS n;
CREATE FUNCTION public.stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := NEW.note || ', stamped'; RETURN NEW; END $$;
CREATE TRIGGER "st amp" BEFORE INSERT OR UPDATE ON public.stamped FOR EACH ROW WHEN (NEW.id > 0) EXECUTE FUNCTION public.stamp();
ALTER TABLE public.stamped ENABLE ALWAYS TRIGGER "st amp";
INSERT INTO public.stamped VALUES (4, 'after it');
CREATE FUNCTION public.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
CREATE EVENT TRIGGER watch_ddl ON ddl_command_end EXECUTE FUNCTION public.on_ddl();

-- Row security, privileges, publications, foreign tables, large objects -----------------------------------------------

CREATE TABLE public.guarded (owner_name name, secret text);
INSERT INTO public.guarded VALUES ('a', '1'), ('b', '2');
ALTER TABLE public.guarded ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY "own rows" ON public.guarded AS RESTRICTIVE FOR SELECT TO PUBLIC USING (owner_name = current_user);
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO "Odd ""Owner"" /ö";
ALTER DEFAULT PRIVILEGES FOR ROLE "Odd ""Owner"" /ö" REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
REVOKE ALL ON FUNCTION public.odd_body(int, text[]) FROM PUBLIC;
GRANT SELECT (id) ON public.texts TO "Odd ""Owner"" /ö" WITH GRANT OPTION;
ALTER TABLE public.texts REPLICA IDENTITY FULL;
-- from 15
CREATE PUBLICATION "Pub ""lication" FOR TABLE public.texts WHERE (id > 3), public.parts WITH (publish = 'insert, update', publish_via_partition_root = true);
-- end
-- before 15
CREATE PUBLICATION "Pub ""lication" FOR TABLE public.texts, public.parts WITH (publish = 'insert, update', publish_via_partition_root = true);
-- end
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER "far away" FOREIGN DATA WRAPPER nowhere OPTIONS (host 'it''s far');
CREATE FOREIGN TABLE public.far_table (n int) SERVER "far away";
SELECT lo_create(720001), lo_create(720002);
SELECT lo_put(720001, 0, decode(repeat('00ff5c0a', 1000), 'hex')), lo_put(720001, 3000000, 'after a hole');
COMMENT ON LARGE OBJECT 720002 IS 'empty';
ALTER LARGE OBJECT 720002 OWNER TO "Odd ""Owner"" /ö";
GRANT SELECT ON LARGE OBJECT 720001 TO "Odd ""Owner"" /ö";
COMMENT ON COLUMN public.texts.value IS '';
DO $$
BEGIN
    EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database());
    EXECUTE format('COMMENT ON DATABASE %I IS %L', current_database(), 'an unusual ''database''');
END
$$;
