// What the service sells: plain classes, structs, records and generics for a heap walk to name.

namespace Demo;

internal enum OrderState { Received, Paid, Packed, Shipped }

internal readonly record struct Money(decimal Amount, string Currency);

internal sealed record OrderLine(string Article, int Count, Money Price);

internal sealed class Customer(int id, string name)
{
    public int Id { get; } = id;
    public string Name { get; } = name;
    public List<Order> Orders { get; } = [];
}

internal sealed class Order(int id, Customer customer, OrderLine[] lines)
{
    public int Id { get; } = id;
    public Customer Customer { get; } = customer;
    public OrderLine[] Lines { get; } = lines;
    public OrderState State { get; set; } = (OrderState)(id % 4);
    public DateTime Received { get; } = new DateTime(2026, 1, 1).AddMinutes(id);
    public string? Note { get; set; }
}

internal sealed class PaymentException(string message, Order order, Exception inner) : Exception(message, inner)
{
    public Order Order { get; } = order;
}

/// <summary>Keeps the newest entries: a generic over a reference and a value type.</summary>
internal sealed class RecentCache<TKey, TValue>(int capacity)
    where TKey : notnull
{
    private readonly Dictionary<TKey, LinkedListNode<KeyValuePair<TKey, TValue>>> _index = [];
    private readonly LinkedList<KeyValuePair<TKey, TValue>> _entries = new();

    public void Add(TKey key, TValue value)
    {
        _index[key] = _entries.AddFirst(new KeyValuePair<TKey, TValue>(key, value));
        if (_entries.Count > capacity)
        {
            _index.Remove(_entries.Last!.Value.Key);
            _entries.RemoveLast();
        }
    }
}
