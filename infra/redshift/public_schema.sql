-- Takes away what every Redshift user is born with: creating tables in schema public. It concerns all users of the
-- database, so it stands alone; a team whose other tools write to public leaves it out (--keep-public-schema).
-- https://docs.aws.amazon.com/redshift/latest/dg/r_Privileges.html

revoke create on schema public from public;
