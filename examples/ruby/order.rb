# An order and its payment in one transaction, with pg.
require "pg"

db = PG.connect(ENV.fetch("DATABASE_URL"))

def order(db, number, total, cents)
  db.exec_params("INSERT INTO shop.orders (id, total) VALUES ($1, $2)", [number, total])
  db.exec_params("SELECT key, status, duplicate FROM lastseat.transfer($1, 'customer:7', 'shop', amount => $2, currency => 'EUR')",
                 ["order-#{number}", cents])
end

def outcome(db, key)
  db.exec_params("SELECT status, code FROM lastseat.outcome($1)", [key]).first
end

db.transaction { order(db, "1042", "12.50", 1250) }

begin
  db.transaction do
    order(db, "1043", "99.00", 9900)
    raise "no stock" # rolls back
  end
rescue RuntimeError
end

sleep 0.1 while outcome(db, "order-1042")["status"] == "pending"
puts "committed: #{outcome(db, "order-1042").values.join(" ")}"
puts "rolled back: #{outcome(db, "order-1043") ? 1 : 0} requests"

begin
  db.exec("SELECT lastseat.transfer('order-1042', 'customer:7', 'shop', 1, 'EUR')")
  raise "the key was used twice"
rescue PG::Error => e
  raise unless e.result&.error_field(PG::Result::PG_DIAG_SQLSTATE) == "LS001" # the key was used for another amount
end
