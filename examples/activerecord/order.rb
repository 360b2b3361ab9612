# An order and its payment in one transaction, with ActiveRecord. The shop also has a column of its own for Lastseat's
# accounts. The program writes that column only if the account is still as it read it.
require "logger"
require "active_record"

ActiveRecord::Base.establish_connection(ENV.fetch("DATABASE_URL"))

class Order < ActiveRecord::Base
  self.table_name = "shop.orders"
end

# shop.accounts is a view of lastseat.accounts (read as a member of lastseat_viewer) with the shop's own column, vip:
# schema.sql.
# Lastseat counts every change of an account in its version.
class Account < ActiveRecord::Base
  self.table_name = "shop.accounts"
  self.primary_key = "id"
  self.locking_column = "version"
end

def transfer(key, cents)
  ActiveRecord::Base.connection.exec_query(
    "SELECT key, status, duplicate FROM lastseat.transfer($1, 'customer:7', 'shop', amount => $2, currency => 'EUR')",
    "transfer", [key, cents])
end

def outcome(key)
  ActiveRecord::Base.uncached do
    look = "SELECT status, code FROM lastseat.outcome($1)"
    ActiveRecord::Base.connection.exec_query(look, "outcome", [key]).rows.first
  end
end

account = Account.find("customer:7")

Order.transaction do
  Order.create!(id: "1042", total: "12.50")
  transfer("order-1042", 1250)
end

Order.transaction do
  Order.create!(id: "1043", total: "99.00")
  transfer("order-1043", 9900)
  raise ActiveRecord::Rollback
end

sleep 0.1 while outcome("order-1042").first == "pending"
puts "committed: #{outcome("order-1042").join(" ")}"
puts "rolled back: #{outcome("order-1043") ? 1 : 0} requests"

begin
  account.update!(vip: true) # the decision rests on a balance that has changed since
  raise "a stale account was written"
rescue ActiveRecord::StaleObjectError
  account.reload
  raise "the balance is #{account.balance}" unless account.balance == 8750
end
account.update!(vip: true)
raise "it was not written" unless Account.find("customer:7").vip
