-- A service's own column beside Lastseat's account. The view reads lastseat.accounts with the rights of its owner, a
-- member of lastseat_viewer. An UPDATE of the view finds the row only if the version is still the one that the service
-- read, and it writes the service's own table.
CREATE TABLE shop.vips (account_id text PRIMARY KEY, vip boolean NOT NULL);

CREATE VIEW shop.accounts AS
SELECT a.id, a.balance, a.held, a.version, coalesce(v.vip, false) AS vip
FROM lastseat.accounts a LEFT JOIN shop.vips v ON v.account_id = a.id;

CREATE FUNCTION shop.update_account() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO shop.vips (account_id, vip) VALUES (OLD.id, NEW.vip)
    ON CONFLICT (account_id) DO UPDATE SET vip = NEW.vip;
    RETURN NEW;
END $$;
CREATE TRIGGER update_account INSTEAD OF UPDATE ON shop.accounts FOR EACH ROW EXECUTE FUNCTION shop.update_account();
