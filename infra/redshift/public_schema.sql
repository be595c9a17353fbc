-- Revokes a default privilege of every Redshift user: creating tables in schema public. It affects all users of the
-- database, so it is a separate file. Leave it out (--keep-public-schema) if other tools write to public.
-- https://docs.aws.amazon.com/redshift/latest/dg/r_Privileges.html

revoke create on schema public from public;
