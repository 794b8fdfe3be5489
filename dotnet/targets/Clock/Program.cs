/// <summary>The smallest .NET process: nothing but the conversation and, on request, the pause clock.</summary>
internal static class Program
{
    private static void Main() => Conversation.Hold();
}
