# holders.rb BEHAVIOUR SECONDS: holds memory in one of two ways. Begins with a line of input, says "done", and ends with
# its input.
behaviour, seconds = ARGV[0], ARGV[1].to_i
random = Random.new(5)
held = []
cache = {}
number = 0
behaviours = {
  # Strings that are kept for good.
  "subscribers" => lambda {
    200.times { held << format("subscriber number %d of this broker, kept for good", number += 1) }
  },
  # The newest 5,000 of many keys.
  "cache" => lambda {
    300.times do
      key = random.rand(200_000)
      cache.delete(key)
      cache[key] = "v" * (50 + random.rand(100))
      cache.shift if cache.size > 5000
    end
  },
}
$stdin.gets
stop = Time.now + seconds
while Time.now < stop
  behaviours[behaviour].call
  sleep 0.05
end
puts "done"
$stdout.flush
$stdin.gets
